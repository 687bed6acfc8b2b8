"""Several things to want at once of a merge, and which merges none other beats in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from merge_gym.messages import unknown_name
from merge_gym.recipe import Recipe

OVER_TASKS: Mapping[str, Callable[[Sequence[float]], float]] = {"mean": fmean, "worst": min}
"""What a merge's scores on all tasks come down to."""

DEPTH = "depth"
"""How many layers it has: the only objective of which less is better."""


def check_objectives(names: Sequence[str], tasks: Sequence[str]) -> None:
    """ValueError unless these are at least two different ones of `mean`, `worst`, `depth` and the
    tasks' names."""
    known = (*OVER_TASKS, DEPTH, *tasks)
    for name in names:
        if name not in known:
            raise ValueError(unknown_name("objective", name, known))
    if len(set(names)) < 2 or len(set(names)) != len(names):
        raise ValueError(f"at least two different objectives are needed, got {list(names)}")


def values_of(scores: Mapping[str, float], recipe: Recipe, names: Sequence[str]) -> list[float]:
    """What a merge has of each objective, in the objectives' own units.

    Args:
        scores: {task: metric in [0, 1]}.
        recipe: of the merge.
        names: of objectives.
    """
    values = []
    for name in names:
        if name in OVER_TASKS:
            values.append(OVER_TASKS[name](list(scores.values())))
        elif name == DEPTH:
            values.append(float(sum(len(layers) for _, layers in recipe.segments)))
        else:
            values.append(scores[name])
    return values


def losses_of(values: Sequence[float], names: Sequence[str]) -> list[float]:
    """The values so that less of each is better."""
    return [value if name == DEPTH else -value for value, name in zip(values, names, strict=True)]


def undominated(losses: Sequence[Sequence[float]]) -> list[int]:
    """Which rows no other row beats: the Pareto set, the first of equals only.

    A row beats another that it is nowhere above and somewhere below.
    """
    rows = [tuple(row) for row in losses]
    return [
        at
        for at, row in enumerate(rows)
        if row not in rows[:at]
        and not any(
            other != row and all(a <= b for a, b in zip(other, row, strict=True)) for other in rows
        )
    ]
