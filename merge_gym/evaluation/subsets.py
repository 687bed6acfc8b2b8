"""Fixed slices of the search split, and the order in which episodes use them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def balanced_subsets(labels: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Deal the examples of each class in turn into `count` disjoint slices.

    Args:
        labels: class of each example, shape (n,).
        count: number of slices, 1..n.

    Returns:
        `count` sorted index arrays that together hold 0..n-1 once; their sizes, and the number of
        each class in them, differ by at most one (in all, and per class).
    """
    if not 1 <= count <= len(labels):
        raise ValueError(
            f"the number of subsets is between 1 and the {len(labels)} examples of the search "
            f"split, got {count!r}"
        )
    by_class = np.argsort(labels, kind="stable")
    return [np.sort(by_class[start::count]) for start in range(count)]


class SubsetSchedule:
    """Which subset an episode is scored on: passes over 0..count-1, each in a fresh random order.

    Attributes:
        count: number of subsets.
        order: the current pass.
        position: where in the pass the next scored episode stands.
    """

    def __init__(self, count: int, generator: np.random.Generator) -> None:
        self.count = count
        self.generator = generator
        self.order = generator.permutation(count)
        self.position = 0

    @property
    def current(self) -> int:
        return int(self.order[self.position])

    def advance(self) -> None:
        """Move to the next subset, beginning a new pass after the last."""
        self.position += 1
        if self.position == self.count:
            self.order = self.generator.permutation(self.count)
            self.position = 0

    def state(self) -> dict[str, Any]:
        """Order and position as plain values, for a checkpoint (the generator is kept apart)."""
        return {"order": self.order.tolist(), "position": self.position}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        self.order, self.position = np.asarray(state["order"]), int(state["position"])
