"""What turns recipes into numbers: requests in, outcomes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import fsum
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from merge_gym.library import Library
from merge_gym.messages import unknown_name
from merge_gym.recipe import Recipe

Values = Mapping[str, NDArray[np.float32]]
"""{task: the metric of each example, shape (n,)}"""


@dataclass(frozen=True)
class Request:
    """One thing to score.

    Attributes:
        recipe: what is scored; of a library each task's own.
        split: `search` or `test`.
        subsets: which subsets of the search split, by number; a whole number m stands for the
            first m of them, 0..m-1. None: the whole split.
        tasks: on which tasks; None for all.
    """

    recipe: Recipe | Library
    split: str = "search"
    subsets: tuple[int, ...] | None = None
    tasks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.subsets, int | np.integer):
            object.__setattr__(self, "subsets", tuple(range(self.subsets)))

    def to_dict(self) -> dict[str, Any]:
        """The request as JSON values."""
        return {
            "recipe": self.recipe.to_dict(),
            "split": self.split,
            "subsets": None if self.subsets is None else list(self.subsets),
            "tasks": None if self.tasks is None else list(self.tasks),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Request:
        """The request of the values that `to_dict` gives."""
        subsets, tasks = data.get("subsets"), data.get("tasks")
        return cls(
            _recipe(data["recipe"]),
            data.get("split", "search"),
            tuple(subsets) if isinstance(subsets, list) else subsets,
            None if tasks is None else tuple(tasks),
        )


def chains(request: Request) -> list[Request]:
    """The request as requests of recipes: of a library one for each task."""
    library = request.recipe
    if isinstance(library, Recipe):
        return [request]
    tasks = library.tasks if request.tasks is None else request.tasks
    return [replace(request, recipe=library.recipe(task), tasks=(task,)) for task in tasks]


def as_recipe(request: Request) -> Recipe:
    """The recipe of a request that `chains` or `units` gave."""
    assert isinstance(request.recipe, Recipe)
    return request.recipe


def _recipe(data: Any) -> Recipe | Library:
    library = isinstance(data, Mapping) and "recipes" in data
    return Library.from_dict(data) if library else Recipe.from_dict(data)


@dataclass(frozen=True)
class Outcome:
    """What a request gave.

    Attributes:
        values: {task: the metric of each example, float32, shape (n,), read-only}: of a whole split
            (or all its subsets) in its order; of some subsets one after the other, as asked for.
        cost: the evaluation cost: examples pushed through a whole model, were nothing remembered.
        seconds: that it took, by the clock.
    """

    values: Values
    cost: int
    seconds: float = 0.0

    @cached_property
    def scores(self) -> dict[str, float]:
        """{task: its metric}, the mean over examples."""
        return {task: float(of.mean(dtype=np.float64)) for task, of in self.values.items()}

    @property
    def mean(self) -> float:
        """The mean over tasks."""
        return mean_over_tasks(self.scores)


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """What several requests of different tasks gave, as one outcome."""
    if len(outcomes) == 1:
        return outcomes[0]
    values = {task: of for outcome in outcomes for task, of in outcome.values.items()}
    cost, seconds = sum(of.cost for of in outcomes), sum(of.seconds for of in outcomes)
    return Outcome(values, cost, seconds)


def mean_over_tasks(scores: Mapping[str, float]) -> float:
    """The one number that a recipe's scores come down to."""
    return fsum(scores.values()) / len(scores)


class Scorer(ABC):
    """Scores recipes. Engine, reference, table, journal and account are all one of these.

    Attributes:
        tasks: the names of the tasks.
        subset_count: S, in how many subsets the search split is dealt.
    """

    tasks: tuple[str, ...]
    subset_count: int

    @abstractmethod
    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        """Score the requests, in order.

        Raises ValueError for a recipe, task, split or subset that is not there.
        """

    @abstractmethod
    def cost(self, request: Request) -> int:
        """The evaluation cost of a request: examples pushed through a whole model, those that its
        heads are calibrated on included."""

    @overload
    def score(
        self, recipe: Recipe | Library, split: str = ..., subset: int | None = ...
    ) -> dict[str, float]: ...
    @overload
    def score(
        self, recipe: Sequence[Recipe | Library], split: str = ..., subset: int | None = ...
    ) -> list[dict[str, float]]: ...
    def score(
        self,
        recipe: Recipe | Library | Sequence[Recipe | Library],
        split: str = "search",
        subset: int | None = None,
    ) -> dict[str, float] | list[dict[str, float]]:
        """{task: metric} of a recipe or library, or of each of several, on a split or on one
        subset of the search split."""
        single = isinstance(recipe, Recipe | Library)
        recipes = [recipe] if isinstance(recipe, Recipe | Library) else recipe
        subsets = None if subset is None else (subset,)
        outcomes = self.evaluate([Request(each, split, subsets) for each in recipes])
        scores = [outcome.scores for outcome in outcomes]
        return scores[0] if single else scores

    def values(
        self, recipe: Recipe, split: str = "search", subset: int | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """{task: the metric of each example, shape (n,)}; `score` is their mean."""
        subsets = None if subset is None else (subset,)
        return dict(self.evaluate([Request(recipe, split, subsets)])[0].values)

    def whole_cost(self, split: str = "search") -> int:
        """Examples of a whole split over all tasks: the cost of one full evaluation."""
        return self.cost(Request(NOTHING, split))

    def units(self, request: Request) -> list[Request]:
        """The request cut where memory is cut: one for each task, and each subset that it names;
        all subsets together are the whole split."""
        subsets = request.subsets
        if subsets is not None and set(subsets) == set(range(self.subset_count)):
            subsets = None
        single: Iterable[tuple[int, ...] | None] = (
            [None] if subsets is None else [(subset,) for subset in subsets]
        )
        return [
            replace(one, tasks=(task,), subsets=part)
            for one in chains(request)
            for task in (self.tasks if one.tasks is None else one.tasks)
            for part in single
        ]

    def check(self, request: Request) -> None:
        """ValueError for tasks and subsets that are not there, and for a library of other tasks."""
        if isinstance(request.recipe, Library) and set(request.recipe.tasks) != set(self.tasks):
            raise ValueError(
                f"the library has recipes for {', '.join(request.recipe.tasks)}, the tasks here "
                f"are {', '.join(self.tasks)}: load its own suite"
            )
        for task in request.tasks or ():
            if task not in self.tasks:
                raise ValueError(unknown_name("task", task, self.tasks))
        if request.subsets is None:
            return
        if request.split != "search":
            raise ValueError(f"only the search split has subsets, got split={request.split!r}")
        for subset in request.subsets:
            if not 0 <= subset < self.subset_count:
                raise ValueError(
                    f"a subset is a number from 0 to {self.subset_count - 1}, got {subset!r}"
                )
        if len(set(request.subsets)) < len(request.subsets) or not request.subsets:
            raise ValueError(f"subsets are named once each, got {list(request.subsets)}")


NOTHING = Recipe("", (), ())
"""The recipe of a request whose cost alone is asked for."""
