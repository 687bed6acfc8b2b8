"""What a search may spend, in evaluation cost."""

from __future__ import annotations

from collections.abc import Sequence

from merge_gym.evaluation.scorer import NOTHING, Request, Scorer, as_recipe, chains
from merge_gym.recipe import Recipe

Unit = tuple[Recipe, str, int]
"""A recipe on one subset of one task, or the calibration of its head for the task (HEAD)."""

HEAD = -1


class BudgetSpent(Exception):  # noqa: N818  it ends a search as planned, nothing went wrong
    """The next evaluation would cost more than is left."""


class Budget:
    """Counts what is scored, each example of each recipe once, whatever it is asked for with.

    Args:
        total: examples pushed through a whole model; None for no bound.
        scorer: whose tasks and subsets are counted.

    Attributes:
        spent: so far.
        kept_back: of what is left, for later.
    """

    def __init__(self, total: int | None, scorer: Scorer) -> None:
        if total is not None and total < 1:
            raise ValueError(f"a budget is at least 1 example, got {total!r}")
        self.total, self.spent, self.kept_back = total, 0, 0
        self._scorer = scorer
        self._sizes = {
            (task, subset): scorer.cost(Request(NOTHING, subsets=(subset,), tasks=(task,)))
            for task in scorer.tasks
            for subset in range(scorer.subset_count)
        }
        self._scored: set[Unit] = set()

    def charge(self, requests: Sequence[Request]) -> list[int]:
        """Pay for what is new in requests, all of them or none; returns how much each of them is.

        Raises:
            BudgetSpent: it is more than is left; then nothing is charged.
            ValueError: a request for another split than the search split, or for a task or subset
                that is not there.
        """
        new: set[Unit] = set()
        costs = []
        for request in requests:
            units = set(self._units(request)) - self._scored - new
            costs.append(sum(map(self._size, units)))
            new |= units
        cost = sum(costs)
        if self.total is not None and self.spent + cost > self.total - self.kept_back:
            raise BudgetSpent(
                f"{self.spent} of {self.total} examples are spent, the next score needs {cost}"
            )
        self._scored |= new
        self.spent += cost
        return costs

    def _units(self, request: Request) -> list[Unit]:
        if request.split != "search":
            raise ValueError(f"a search sees the search split only, not {request.split!r}")
        self._scorer.check(request)
        return [unit for one in chains(request) for unit in self._units_of(one)]

    def _units_of(self, request: Request) -> list[Unit]:
        recipe = as_recipe(request)
        tasks = self._scorer.tasks if request.tasks is None else request.tasks
        subsets = range(self._scorer.subset_count) if request.subsets is None else request.subsets
        parts = [*subsets, *([] if recipe.heads is None else [HEAD])]
        return [(recipe, task, part) for task in tasks for part in parts]

    def _size(self, unit: Unit) -> int:
        recipe, task, part = unit
        if part == HEAD:
            return 0 if recipe.heads is None else recipe.heads.examples
        return self._sizes[task, part]
