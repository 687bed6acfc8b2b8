"""What is best for its storage: Pareto fronts of accuracy against storage, and their areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Point:
    """A library on the plane: what it takes (models or bytes), its score, and what it is."""

    storage: float
    score: float
    library: Any = None


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that nothing as small beats, by storage; of equals the first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.storage, -point.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def within(points: Sequence[Point], storage: float) -> Point:
    """The best of at most this storage; ValueError where all are larger."""
    fitting = [point for point in points if point.storage <= storage + 1e-9]
    if not fitting:
        smallest = min(point.storage for point in points)
        raise ValueError(
            f"no library on the front takes at most {storage:g} models: the smallest takes "
            f"{smallest:.3f}"
        )
    return max(fitting, key=lambda point: (point.score, -point.storage))


def hypervolume(points: Sequence[Point], storage: float, score: float) -> float:
    """The area that the points dominate of all that is better than a reference."""
    front = [of for of in pareto(points) if of.storage <= storage and of.score > score]
    ends = [*(of.storage for of in front[1:]), storage]
    return sum((end - of.storage) * (of.score - score) for of, end in zip(front, ends, strict=True))


def area(points: Sequence[Point], uniform: float, experts: float, count: int) -> float:
    """The hypervolume beyond the best uniform merge (one model) as a share of the rectangle up to
    all `count` experts; more than 1 where libraries beat the experts. NaN where experts do not
    beat the merge."""
    if experts <= uniform:
        return float("nan")
    return hypervolume(points, count, uniform) / ((count - 1) * (experts - uniform))
