"""The rules of the MDP, apart from any model: actions move a cursor and take layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
from numpy.typing import NDArray


@dataclass
class Episode:
    """One walk through the layers (DESIGN: the environment, exactly).

    Actions 0..C-1 take candidate i's layer at the cursor, C skips, C+1 goes back. The episode is
    complete when the cursor passes the last layer. It is invalid when the walk goes back at the
    first layer (anywhere without `stacking`), spends `max_steps`, or takes more than `max_depth`
    layers.

    Attributes:
        candidates: C, how many sources can stand at each layer.
        sizes: layers in each segment of the model; their sum is L.
        max_steps: step budget; None for no bound.
        max_depth: how many layers the merged model may have; None for no bound.
        stacking: whether going back is allowed at all.
        cursor: the layer that the next action decides on, 0..L.
        taken: (layer, candidate) pairs in the order in which they were taken.
    """

    candidates: int
    sizes: tuple[int, ...]
    max_steps: int | None
    max_depth: int | None = None
    stacking: bool = True
    cursor: int = 0
    steps: int = 0
    taken: list[tuple[int, int]] = field(default_factory=list)
    invalid: bool = False

    @property
    def layers(self) -> int:
        """L, the number of layers over all segments."""
        return sum(self.sizes)

    @property
    def skip(self) -> int:
        return self.candidates

    @property
    def back(self) -> int:
        return self.candidates + 1

    @property
    def complete(self) -> bool:
        """Whether the walk built a model that can be scored."""
        return not self.invalid and self.cursor == self.layers

    @property
    def ended(self) -> bool:
        return self.invalid or self.complete

    @property
    def depth(self) -> int:
        return len(self.taken)

    @property
    def merging_map(self) -> NDArray[np.float32]:
        """How often each (candidate, layer) was taken; shape (C, L) (paper, eq. 5)."""
        counts = np.zeros((self.candidates, self.layers), np.float32)
        for layer, candidate in self.taken:
            counts[candidate, layer] += 1
        return counts

    def step(self, action: int) -> None:
        """Apply one action; ValueError for one outside 0..C+1."""
        if not isinstance(action, Integral) or not 0 <= action <= self.back:
            raise ValueError(f"an action is an integer from 0 to {self.back}, got {action!r}")
        self.steps += 1
        if action == self.back:
            self.invalid = self.cursor == 0 or not self.stacking
            self.cursor = max(self.cursor - 1, 0)
        elif action == self.skip:
            self.cursor += 1
        elif self.depth == self.max_depth:
            self.invalid = True
        else:
            self.taken.append((self.cursor, int(action)))
            self.cursor += 1
        if self.steps == self.max_steps and not self.complete:
            self.invalid = True

    def mask(self) -> NDArray[np.int8]:
        """1 for each allowed action, 0 for a back that is invalid and for whatever would break
        the depth budget; shape (C+2,), int8."""
        allowed = np.ones(self.candidates + 2, np.int8)
        allowed[self.back] = self.stacking and self.cursor > 0
        allowed[: self.candidates] = self.depth != self.max_depth
        return allowed

    def copy(self) -> Episode:
        """An independent copy of the walk so far."""
        copy = Episode(**vars(self))
        copy.taken = list(self.taken)
        return copy
