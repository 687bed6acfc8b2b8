"""What may be decided: named, typed decisions that spell a recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np

from merge_gym.library import Library
from merge_gym.messages import taken_name, unknown_name
from merge_gym.recipe import Recipe
from merge_gym.settings import Range, Setting, check_settings, settings_of_dataclass
from merge_gym.spaces.candidates import Candidates

Decisions = dict[str, Any]
"""{name: value} of every decision of a space."""


class Space(ABC):
    """Named decisions, each with its range, and the recipe that they spell.

    Attributes:
        candidates: the sources and segments of the models that recipes are made of.
        decisions: every decision by name, in the order from a model's input to its output.
        depth: for each decision, how late in the model it first tells, from 0 to 1: recipes that
            differ late only share their prefixes.
    """

    candidates: Candidates
    decisions: Mapping[str, Setting]
    depth: Mapping[str, float]

    @abstractmethod
    def recipe(self, decisions: Decisions) -> Recipe | Library:
        """What checked decisions spell."""

    def valid(self, decisions: Decisions) -> bool:
        """Whether what they spell is scored. What is not counts as 0 and costs nothing."""
        return True

    def active(self, decisions: Decisions) -> list[str]:
        """The decisions that tell, the others being as they are."""
        return list(self.decisions)

    def numbers(self, decisions: Decisions) -> list[str]:
        """The decisions on numbers that tell."""
        kinds = ("number", "integer")
        return [name for name in self.active(decisions) if self.decisions[name].kind in kinds]

    @abstractmethod
    def starts(self) -> dict[str, Decisions]:
        """{name: decisions} worth scoring first, such as every uniform merge."""

    def describe(self) -> dict[str, Any]:
        """What tells this space from another, as JSON values."""
        return {
            "space": type(self).__name__,
            "suite": self.candidates.digest,
            "decisions": {name: setting.expected() for name, setting in self.decisions.items()},
        }

    def check(self, decisions: Mapping[str, Any]) -> Decisions:
        """The decisions, all of them there and each in its range.

        Raises ValueError for an unknown or missing name and a value out of range.
        """
        if missing := [name for name in self.decisions if name not in decisions]:
            raise ValueError(f"decisions lack {', '.join(missing[:5])}")
        return check_settings("decision", decisions, self.decisions)

    def sample(self, generator: np.random.Generator) -> Decisions:
        """Every decision drawn uniformly from its range."""
        return {name: draw(setting, generator) for name, setting in self.decisions.items()}

    @abstractmethod
    def edits(self) -> dict[str, list[Decisions]]:
        """{place: what can be put there}: coarse changes, each the new values of a few decisions,
        such as another source for a layer. Edits of different places go together."""

    def blocks(self, decisions: Decisions) -> list[list[str]]:
        """Numbers that belong together and may be moved at once; none by default."""
        return []

    def shift(
        self, decisions: Decisions, names: list[str], step: float, generator: np.random.Generator
    ) -> Decisions:
        """The decisions with the numbers of `names` moved by one common normal step, as a share of
        their ranges."""
        by = step * float(generator.standard_normal())
        moved = {name: shifted(self.decisions[name], decisions[name], by) for name in names}
        return decisions | moved

    def mutate(
        self, decisions: Decisions, names: list[str], step: float, generator: np.random.Generator
    ) -> Decisions:
        """The decisions with those of `names` changed: a number moves by a normal step of `step`
        times its range, everything else is drawn anew from the other values."""
        changed = dict(decisions)
        for name in names:
            changed[name] = move(self.decisions[name], decisions[name], step, generator)
        return changed


def shifted(setting: Setting, value: float, by: float) -> float:
    """A number moved by a share of its range and reflected into it."""
    low, high = setting.range.low, setting.range.high
    moved = low + abs(value + by * (high - low) - low)
    return float(max(low, high - abs(high - moved)))


_SPACES: dict[str, type[Space]] = {}

SpaceClass = TypeVar("SpaceClass", bound=type[Space])


def space(name: str) -> Callable[[SpaceClass], SpaceClass]:
    """Register a dataclass of spaces under `name`; its fields but `candidates` are settings."""

    def register(cls: SpaceClass) -> SpaceClass:
        if name in _SPACES:
            raise ValueError(taken_name("space", name, _SPACES[name]))
        _SPACES[name] = cls
        return cls

    return register


def available() -> tuple[str, ...]:
    """The names of all spaces, sorted."""
    return tuple(sorted(_SPACES))


def make(name: str, candidates: Candidates, **settings: Any) -> Space:
    """The space called `name` over a suite's candidates.

    Raises ValueError for an unknown name or setting, a value out of range, and for what the
    suite's family of models does not offer.
    """
    if name not in _SPACES:
        raise ValueError(unknown_name("space", name, available()))
    cls: Any = _SPACES[name]
    known = settings_of_dataclass(cls)
    return cast(
        Space, cls(candidates, **check_settings(f"setting of space {name!r}", settings, known))
    )


def number(name: str, low: float, high: float, default: float) -> Setting:
    """A decision on a number."""
    return Setting(name=name, default=default, kind="number", range=Range(low, high))


def choice(name: str, choices: tuple[str, ...]) -> Setting:
    """A decision on one of a few words, the first by default."""
    return Setting(name=name, default=choices[0], kind="choice", choices=choices)


def draw(setting: Setting, generator: np.random.Generator) -> Any:
    """A value drawn uniformly from a setting's range."""
    low, high = setting.range.low, setting.range.high
    if setting.kind == "choice":
        return setting.choices[int(generator.integers(len(setting.choices)))]
    if setting.kind == "flag":
        return bool(generator.integers(2))
    if setting.kind == "integer":
        return int(generator.integers(int(low), int(high) + 1))
    return float(generator.uniform(low, high))


def move(setting: Setting, value: Any, step: float, generator: np.random.Generator) -> Any:
    """Another value near `value`: a number moved by a normal step of `step` times its range and
    reflected into it; of a choice any other word; of whole numbers a neighbour."""
    low, high = setting.range.low, setting.range.high
    if setting.kind == "choice":
        others = [word for word in setting.choices if word != value]
        return others[int(generator.integers(len(others)))] if others else value
    if setting.kind == "flag":
        return not value
    if setting.kind == "integer":
        moved = value + (1 if generator.integers(2) else -1)
        return int(min(max(moved, low), high))
    return shifted(setting, value, step * float(generator.standard_normal()))
