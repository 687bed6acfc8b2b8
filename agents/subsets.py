"""For agents that score on one subset at a time: whose turn it is, and what the end costs."""

from __future__ import annotations

import numpy as np

from merge_gym.studies.study import Study

MOST = 30


class Turns:
    """The subsets in a random order, each once before any comes again."""

    def __init__(self, count: int, generator: np.random.Generator) -> None:
        self._count, self._generator = count, generator
        self._left: list[int] = []

    def next(self) -> int:
        """The next subset's number."""
        if not self._left:
            self._left = self._generator.permutation(self._count).tolist()
        return self._left.pop()


def finals(share: float, study: Study) -> int:
    """How many recipes that share of the budget scores on the whole search split, from 1 to 30."""
    assert study.budget is not None
    return max(1, min(MOST, int(share * study.budget / study.full_cost)))


def check_final(name: str, share: float, study: Study) -> None:
    """ValueError where the budget has no room for a search before the final scoring."""
    if study.budget is None or study.budget <= study.full_cost:
        raise ValueError(
            f"{name} needs a budget of more than one full evaluation, {study.full_cost} examples, "
            f"got {study.budget}"
        )
    if finals(share, study) * study.full_cost >= study.budget:
        raise ValueError(f"final={share} leaves {name} no budget to search with: lower it")
