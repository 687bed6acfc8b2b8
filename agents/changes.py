"""Small changes of decisions: what every search around an incumbent proposes."""

from __future__ import annotations

import numpy as np

from merge_gym.spaces.space import Decisions, Space

TRIES = 200
"""How often an edit is drawn again that changes nothing."""


class Changes:
    """Draws edits of decisions, and moves of their numbers.

    Args:
        space: of the decisions.
        most: how many edits, or numbers, are changed at once, at most.
        generator: of what is drawn.
    """

    def __init__(self, space: Space, most: int, generator: np.random.Generator) -> None:
        self.space, self.most, self.generator = space, most, generator
        self.places = space.edits()
        self._names = list(self.places)

    def edited(self, decisions: Decisions) -> Decisions:
        """The decisions with edits at a few places, one of them at least new if there are such."""
        changed = decisions
        for _ in range(TRIES):
            changed = dict(decisions)
            for at in self._few(len(self._names)):
                edits = self.places[self._names[at]]
                changed |= edits[int(self.generator.integers(len(edits)))]
            if changed != decisions:
                break
        return changed

    def moved(self, decisions: Decisions, step: float, blocks: float = 0.5) -> Decisions:
        """The decisions with numbers moved: with probability `blocks` those of a block, by one
        common step; otherwise a few single ones. `step` is the standard deviation of a step, as a
        share of a number's range."""
        together = self.space.blocks(decisions)
        if together and self.generator.random() < blocks:
            block = together[int(self.generator.integers(len(together)))]
            return self.space.shift(decisions, block, step, self.generator)
        numbers = self.space.numbers(decisions)
        chosen = [numbers[at] for at in self._few(len(numbers))]
        return self.space.mutate(decisions, chosen, step, self.generator)

    def changed(self, decisions: Decisions, edits: float, step: float) -> Decisions:
        """The decisions `edited` with probability `edits`, or else `moved`, as far as the space has
        edits and numbers."""
        numbers = self.space.numbers(decisions)
        if not numbers or (self.places and self.generator.random() < edits):
            return self.edited(decisions)
        return self.moved(decisions, step)

    def _few(self, count: int) -> list[int]:
        """One to `most` of so many things."""
        size = min(int(self.generator.integers(1, self.most + 1)), count)
        chosen: list[int] = self.generator.choice(count, size=size, replace=False).tolist()
        return chosen
