"""λ per expert by their score: every combination where they are few, else one expert at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

MOST = 1000
"""Up to how many combinations are all scored."""

ROUNDS = 3
"""How often, at most, each expert's λ is gone through otherwise."""

Weights = tuple[float, ...]


def evaluations(grid: Sequence[float], experts: int) -> int:
    """How many merges are scored, at most."""
    whole = len(grid) ** experts
    return whole if whole <= MOST else len(grid) * (1 + ROUNDS * experts)


def best_weights(
    score: Callable[[Weights], float], grid: Sequence[float], experts: int
) -> tuple[Weights, float]:
    """The λ of the highest score; of equals, those met first.

    Where the combinations of the grid are more than `MOST`: from the best common λ, one expert's
    after the other's, until a round changes nothing or for `ROUNDS` rounds.

    Returns: λ for each expert, and the score.
    """
    if len(grid) ** experts <= MOST:
        return _best(score, itertools.product(grid, repeat=experts))
    best, value = _best(score, ((weight,) * experts for weight in grid))
    for _ in range(ROUNDS):
        before = best
        for place in range(experts):
            changed = ((*best[:place], weight, *best[place + 1 :]) for weight in grid)
            found, reached = _best(score, changed)
            if reached > value:
                best, value = found, reached
        if best == before:
            break
    return best, value


def _best(score: Callable[[Weights], float], tried: Iterator[Weights]) -> tuple[Weights, float]:
    best: tuple[Weights, float] = ((), -1.0)
    for weights in tried:
        value = score(weights)
        if value > best[1]:
            best = (weights, value)
    return best
