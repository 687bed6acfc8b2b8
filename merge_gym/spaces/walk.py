"""The recipes of the MDP as decisions: for each layer a candidate, or skip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from merge_gym.recipe import Recipe
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.space import Decisions, Space, choice, space

SKIP = "skip"


@space("walk")
@dataclass
class Walk(Space):
    """For each layer one of the candidates, or none (Reinforced Model Merging, without stacking).

    What is shared comes from where the candidates say.

    Args:
        candidates: what can stand at each layer.
    """

    candidates: Candidates = field(metadata={"checked_elsewhere": True})

    def __post_init__(self) -> None:
        candidates = self.candidates
        words = (*candidates.names, SKIP)
        self._places = [
            f"{segment}.{index}"
            for segment, size in candidates.segments.items()
            for index in range(size)
        ]
        self.decisions = {place: choice(place, words) for place in self._places}
        self.depth = {place: at / len(self._places) for at, place in enumerate(self._places)}

    def describe(self) -> dict[str, Any]:
        sources = [source.to_dict() for source in self.candidates.sources]
        shared = [[part, source.to_dict()] for part, source in self.candidates.shared]
        return super().describe() | {"sources": sources, "shared": shared}

    def recipe(self, decisions: Decisions) -> Recipe:
        names = self.candidates.names
        return self.candidates.recipe(
            (layer, names.index(decisions[place]))
            for layer, place in enumerate(self._places)
            if decisions[place] != SKIP
        )

    def starts(self) -> dict[str, Decisions]:
        return {name: dict.fromkeys(self._places, name) for name in self.candidates.names}

    def edits(self) -> dict[str, list[Decisions]]:
        words = (*self.candidates.names, SKIP)
        return {place: [{place: word} for word in words] for place in self._places}
