"""Layer by layer, which candidates stand there, one after the other, and how loud."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from merge_gym.recipe import Layer, Recipe
from merge_gym.settings import Range, Setting
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.layerwise import SCALES
from merge_gym.spaces.space import Decisions, Space, choice, number, space
from merge_gym.spaces.walk import SKIP

NOTHING = "nothing"

DEEPER = 2
"""How many layers more than the suite's models a recipe may have, if nothing else is said."""


@space("depthwise")
@dataclass
class Depthwise(Space):
    """For each layer, which is a slot, a few candidates that stand there one after the other, or
    none, and the scale of their branches. After the depth-wise integration space of automated model
    merging (arXiv:2502.04030), over the bank's merges too.

    What is shared comes from where the candidates say.

    Args:
        candidates: what can stand in a slot.
        most: how many can stand in one.
        fill: the candidate that stands where no other does, and only there; None: an empty slot is
            left out.
        scales: the branches of a slot's layers have a scale from 0.4 to 1.5.
        max_depth: how many layers a recipe may have; deeper ones are not scored. None: two more
            than the suite's models.
    """

    candidates: Candidates = field(metadata={"checked_elsewhere": True})
    most: Annotated[int, Range(1)] = 2
    fill: str | None = None
    scales: bool = True
    max_depth: Annotated[int, Range(1)] | None = None

    def __post_init__(self) -> None:
        candidates = self.candidates
        candidates.family.check(scales=self.scales)
        if self.fill is not None:
            candidates.source(self.fill)
        self._words = [name for name in candidates.names if name != self.fill]
        self._empty = SKIP if self.fill is None else self.fill
        self._slots = [f"{segment}.{index}" for segment, index in candidates.places]
        self._deepest = self.max_depth or len(self._slots) + DEEPER
        self.decisions = {setting.name: setting for setting in self._settings()}
        at = {slot: place / len(self._slots) for place, slot in enumerate(self._slots)}
        self.depth = {name: at[name.partition(":")[0]] for name in self.decisions}

    def describe(self) -> dict[str, Any]:
        sources = [source.to_dict() for source in self.candidates.sources]
        shared = [[part, source.to_dict()] for part, source in self.candidates.shared]
        given = {"sources": sources, "shared": shared, "max_depth": self._deepest}
        return super().describe() | given

    def recipe(self, decisions: Decisions) -> Recipe:
        return self.candidates.put_together(
            (segment, Layer.of(index, self.candidates.source(name), self._scale(slot, decisions)))
            for slot, (segment, index) in zip(self._slots, self.candidates.places, strict=True)
            for name in self._standing(slot, decisions)
        )

    def valid(self, decisions: Decisions) -> bool:
        return sum(len(self._standing(slot, decisions)) for slot in self._slots) <= self._deepest

    def active(self, decisions: Decisions) -> list[str]:
        """Without what would come after nothing, and the scales of empty slots."""
        active = []
        for slot in self._slots:
            names = self._names(slot)
            ends = (
                at for at, name in enumerate(names) if decisions[name] in (self._empty, NOTHING)
            )
            active += names[: next(ends, self.most) + 1]
            if self.scales and self._standing(slot, decisions):
                active.append(f"{slot}:scale")
        return active

    def edits(self) -> dict[str, list[Decisions]]:
        """A candidate for a slot, alone, or none; a further one after what stands there."""
        places = {}
        for slot in self._slots:
            first, *rest = self._names(slot)
            alone = dict.fromkeys(rest, NOTHING)
            edits: list[Decisions] = [{first: name} | alone for name in (*self._words, self._empty)]
            places[slot] = edits + [{name: word} for name in rest[:1] for word in self._words]
        return places

    def blocks(self, decisions: Decisions) -> list[list[str]]:
        """The scales of runs of neighbouring slots."""
        scales = [name for name in self.active(decisions) if name.endswith(":scale")]
        ends = range(len(scales) + 1)
        return [scales[first:end] for first in ends for end in ends if end - first > 1]

    def starts(self) -> dict[str, Decisions]:
        """Every candidate for all layers."""
        default = {name: setting.default for name, setting in self.decisions.items()}
        return {name: default | dict.fromkeys(self._slots, name) for name in self.candidates.names}

    def _settings(self) -> Iterator[Setting]:
        for slot in self._slots:
            first, *rest = self._names(slot)
            yield choice(first, (*self._words, self._empty))
            for name in rest:
                yield choice(name, (NOTHING, *self._words))
            if self.scales:
                yield number(f"{slot}:scale", *SCALES, 1.0)

    def _names(self, slot: str) -> list[str]:
        """What the decisions on a slot's candidates are called, in order."""
        return [slot, *(f"{slot}:{place}" for place in range(2, self.most + 1))]

    def _standing(self, slot: str, decisions: Decisions) -> list[str]:
        """The names of the candidates that stand in a slot, in order."""
        standing: list[str] = []
        for name in self._names(slot):
            if decisions[name] in (self._empty, NOTHING):
                return standing or ([] if self.fill is None else [self.fill])
            standing.append(decisions[name])
        return standing

    def _scale(self, slot: str, decisions: Decisions) -> float:
        return float(decisions.get(f"{slot}:scale", 1.0))
