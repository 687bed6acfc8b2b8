"""What a search may spend, in evaluation cost."""

from __future__ import annotations

from merge_gym.evaluation.scorer import NOTHING, Request, Scorer
from merge_gym.recipe import Recipe


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
        self._tasks, self._count = scorer.tasks, scorer.subset_count
        self._sizes = {
            (task, subset): scorer.cost(Request(NOTHING, subsets=(subset,), tasks=(task,)))
            for task in scorer.tasks
            for subset in range(scorer.subset_count)
        }
        self._scored: set[tuple[Recipe, str, int]] = set()

    def charge(self, request: Request) -> int:
        """Pay for what is new in a request; returns how much that is.

        Raises:
            BudgetSpent: it is more than is left; then nothing is charged.
            ValueError: a request for another split than the search split.
        """
        if request.split != "search":
            raise ValueError(f"a search sees the search split only, not {request.split!r}")
        tasks = self._tasks if request.tasks is None else request.tasks
        subsets = range(self._count) if request.subsets is None else request.subsets
        units = [(request.recipe, task, subset) for task in tasks for subset in subsets]
        new = [unit for unit in units if unit not in self._scored]
        cost = sum(self._sizes[task, subset] for _, task, subset in new)
        if self.total is not None and self.spent + cost > self.total - self.kept_back:
            raise BudgetSpent(
                f"{self.spent} of {self.total} examples are spent, the next score needs {cost}"
            )
        self._scored.update(new)
        self.spent += cost
        return cost
