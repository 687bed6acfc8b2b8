"""Fixed slices of the search split, and the order in which episodes use them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from merge_gym.messages import unknown_name
from merge_gym.suites import Split, Suite


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


class Subsets:
    """The examples of a suite's tasks, by split and subset.

    Args:
        suite: whose tasks.
        count: S, in how many slices each search split is dealt.

    Raises ValueError where S exceeds the smallest search split, or the suite has no tasks.
    """

    def __init__(self, suite: Suite, count: int) -> None:
        if not suite.tasks:
            raise ValueError(
                f"the suite {suite.name} has no tasks, so nothing can be scored: give it tasks "
                f"with data (its recipes can be exported as they are)"
            )
        self.count = count
        self._tasks = suite.tasks
        self._slices = {
            name: balanced_subsets(task.splits["search"].labels.numpy(), count)
            for name, task in suite.tasks.items()
        }

    def split(self, task: str, split: str) -> Split:
        """A whole split; ValueError if the task has none of that name."""
        splits = self._tasks[task].splits
        if split not in splits:
            raise ValueError(unknown_name("split", split, splits))
        return splits[split]

    def rows(self, task: str, split: str, subset: int | None) -> NDArray[np.int64] | None:
        """The positions in the split of a subset's examples; None for the whole split."""
        if subset is None:
            return None
        if split != "search":
            raise ValueError(f"only the search split has subsets, got split={split!r}")
        if not 0 <= subset < self.count:
            raise ValueError(f"a subset is a number from 0 to {self.count - 1}, got {subset!r}")
        return self._slices[task][subset]

    def examples(self, task: str, split: str, subset: int | None) -> Split:
        """The examples of a split (subset None) or of one subset of the search split."""
        examples, rows = self.split(task, split), self.rows(task, split, subset)
        return examples if rows is None else examples[rows]

    def labels(self, task: str, split: str, subset: int | None) -> Tensor:
        """Their labels, int64."""
        labels, rows = self.split(task, split).labels, self.rows(task, split, subset)
        return labels if rows is None else labels[rows]

    def targets(self, task: str, split: str, subset: int | None) -> Tensor | None:
        """Their target tokens, int64; None without a language model."""
        targets, rows = self.split(task, split).targets, self.rows(task, split, subset)
        return targets if rows is None or targets is None else targets[rows]

    def cost(self, split: str, subset: int | None) -> int:
        """Examples of a split or subset over all tasks."""
        return sum(len(self.labels(task, split, subset)) for task in self._tasks)


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
