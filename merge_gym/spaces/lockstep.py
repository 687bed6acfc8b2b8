"""The rules of the MDP for many episodes at once, in arrays; `Episode` says what they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from merge_gym.spaces.episode import Episode


class Lockstep:
    """N walks that begin as copies of one episode and step together.

    Every row behaves as an `Episode` given the same actions.

    Args:
        start: the episode before its first step.
        count: N.

    Attributes:
        cursor, steps, depth: as in `Episode`, int64, shape (N,).
        invalid: bool, shape (N,).
        maps: merging maps, float32, shape (N, C, L).
    """

    def __init__(self, start: Episode, count: int) -> None:
        self.start = start
        self.cursor = np.zeros(count, np.int64)
        self.steps = np.zeros(count, np.int64)
        self.depth = np.zeros(count, np.int64)
        self.invalid = np.zeros(count, np.bool_)
        self.maps = np.zeros((count, start.candidates, start.layers), np.float32)
        self._taken = np.zeros((count, start.max_steps or 0, 2), np.int64)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which walks built a model that can be scored."""
        return ~self.invalid & (self.cursor == self.start.layers)

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Which walks are over."""
        return self.invalid | (self.cursor == self.start.layers)

    def taken(self, row: int) -> list[tuple[int, int]]:
        """The (layer, candidate) pairs of a walk, in the order in which they were taken."""
        return [(layer, source) for layer, source in self._taken[row, : self.depth[row]].tolist()]

    def encoded(self) -> NDArray[np.int64]:
        """The layers taken, each as layer · C + candidate, in order; -1 for the rest; shape
        (N, max_steps)."""
        numbers = self._taken[..., 0] * self.start.candidates + self._taken[..., 1]
        numbers[np.arange(numbers.shape[1]) >= self.depth[:, None]] = -1
        return numbers

    def begin(self, rows: NDArray[np.bool_]) -> None:
        """Put the walks in `rows` back to their beginning."""
        for state in (self.cursor, self.steps, self.depth, self.invalid, self.maps):
            state[rows] = 0

    def step(self, actions: NDArray[np.int64], rows: NDArray[np.bool_]) -> None:
        """Apply an action to each of the walks in `rows`, the others stay."""
        start, budget = self.start, self.start.max_depth
        back = rows & (actions == start.back)
        take = rows & (actions < start.candidates)
        full = take & (self.depth == budget) if budget is not None else np.zeros_like(take)
        self.invalid |= full | (back & ((self.cursor == 0) | (not start.stacking)))
        self._take(actions, take & ~full)
        self.steps += rows
        self.cursor -= back & (self.cursor > 0)
        self.cursor += rows & ~back & ~full
        if start.max_steps is not None:
            self.invalid |= rows & (self.steps == start.max_steps) & ~self.complete

    def mask(self) -> NDArray[np.int8]:
        """1 for each allowed action, int8, shape (N, C+2)."""
        allowed = np.ones((len(self.cursor), self.start.candidates + 2), np.int8)
        allowed[:, self.start.back] = self.start.stacking & (self.cursor > 0)
        if self.start.max_depth is not None:
            allowed[:, : self.start.candidates] = (self.depth != self.start.max_depth)[:, None]
        return allowed

    def _take(self, actions: NDArray[np.int64], rows: NDArray[np.bool_]) -> None:
        chosen = np.flatnonzero(rows)
        layers, sources = self.cursor[chosen], actions[chosen]
        self._taken[chosen, self.depth[chosen]] = np.stack([layers, sources], axis=1)
        self.maps[chosen, sources, layers] += 1
        self.depth[chosen] += 1
