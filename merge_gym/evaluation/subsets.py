"""Fixed slices of the search split, and the order in which episodes use them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from merge_gym.messages import unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from merge_gym.suites import Split, Suite, Task


def balanced_subsets(labels: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Deal the examples of each class in turn into `count` disjoint slices.

    The first m slices together are balanced as well, so that they serve as nested fidelities.

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


class Subsets:
    """Which examples of a split of n are in which subset.

    Args:
        labels: class of each example, shape (n,).
        count: S, in how many subsets they are dealt.

    Attributes:
        rows: for each subset the positions of its examples, sorted.
    """

    def __init__(self, labels: NDArray[np.int64], count: int) -> None:
        self.rows = balanced_subsets(labels, count)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The positions of all examples, subset after subset; shape (n,)."""
        return np.concatenate(self.rows)

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """The subset of each example, shape (n,)."""
        owner = np.empty(len(self.order), np.int64)
        for subset, rows in enumerate(self.rows):
            owner[rows] = subset
        return owner

    def in_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values given subset after subset, in the order of the split."""
        placed = np.empty_like(values)
        placed[self.order] = values
        return placed


class Examples:
    """The examples of a suite's tasks, by split and subset.

    Args:
        suite: whose tasks.
        count: S, in how many subsets each search split is dealt.

    Raises ValueError where S exceeds the smallest search split, or the suite has no tasks.
    """

    def __init__(self, suite: Suite, count: int) -> None:
        if not suite.tasks:
            raise ValueError(
                f"the suite {suite.name} has no tasks, so nothing can be scored: give it tasks "
                f"with data (its recipes can be exported as they are)"
            )
        self.count = count
        self._tasks: Mapping[str, Task] = suite.tasks
        self.subsets = {
            name: Subsets(task.splits["search"].labels.numpy(), count)
            for name, task in suite.tasks.items()
        }

    def split(self, task: str, split: str) -> Split:
        """A whole split; ValueError if the task has none of that name."""
        splits = self._tasks[task].splits
        if split not in splits:
            raise ValueError(unknown_name("split", split, splits))
        return splits[split]

    def rows(self, task: str, subset: int | None) -> NDArray[np.int64] | None:
        """The positions in the search split of a subset's examples; None for a whole split."""
        return None if subset is None else self.subsets[task].rows[subset]

    def examples(self, task: str, split: str, subset: int | None) -> Split:
        """The examples of a split (subset None) or of one subset of the search split."""
        examples, rows = self.split(task, split), self.rows(task, subset)
        return examples if rows is None else examples[rows]

    def labels(self, task: str, split: str, subset: int | None) -> Tensor:
        """Their labels, int64."""
        labels, rows = self.split(task, split).labels, self.rows(task, subset)
        return labels if rows is None else labels[rows]

    def targets(self, task: str, split: str, subset: int | None) -> Tensor | None:
        """Their target tokens, int64; None without a language model."""
        targets, rows = self.split(task, split).targets, self.rows(task, subset)
        return targets if rows is None or targets is None else targets[rows]

    def size(self, task: str, split: str, subset: int | None) -> int:
        """How many they are."""
        rows = self.rows(task, subset)
        return len(self.split(task, split)) if rows is None else len(rows)


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
