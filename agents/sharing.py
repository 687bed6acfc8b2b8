"""What searches of a modular space have in common: joining groups, and libraries by rule."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from merge_gym.spaces.modular import Modular, canonical, groups_of_several, members_of
from merge_gym.spaces.space import Decisions
from merge_gym.studies.study import Study


def modular_space(study: Study) -> Modular:
    """The study's space; ValueError where it is not modular."""
    if not isinstance(study.space, Modular):
        raise ValueError(
            f"this agent searches the modular space, not {type(study.space).__name__}: run "
            f"python -m experiments.modular"
        )
    return study.space


def score_starts(study: Study) -> str:
    """Score the space's starts; returns the method of the best uniform merge."""
    space = modular_space(study)
    trials = dict(
        zip(space.starts(), study.evaluate_all(list(space.starts().values())), strict=True)
    )
    return max(space.methods, key=lambda method: trials[method].mean)


def joins(
    space: Modular, decisions: Decisions, name: str, method: str, residual: str
) -> list[Decisions]:
    """The decisions with two groups of one component joined, each pair once."""
    grouping = decisions[f"{name}:groups"]
    groups = sorted(set(grouping))
    found: dict[str, Decisions] = {}
    for one, other in itertools.combinations(groups, 2):
        merged = canonical([int(one if group == other else group) for group in grouping])
        found[merged] = with_groups(space, decisions, name, merged, method, residual)
    return list(found.values())


def with_groups(
    space: Modular, decisions: Decisions, name: str, grouping: str, method: str, residual: str
) -> Decisions:
    """The decisions with one component grouped so, every group merged by one method."""
    groups = range(len(groups_of_several(grouping)))
    methods = {f"{name}:method-{number}": method for number in groups}
    kept = {f"{name}:residual": residual} if space.residuals else {}
    return decisions | {f"{name}:groups": grouping} | methods | kept


def kept_ends(space: Modular, method: str, first: bool) -> list[Decisions]:
    """The first (or last) k components kept for each task and the others merged, for every k."""
    names = list(space.places)
    paths = []
    for count in range(1, len(names)):
        kept = set(names[:count] if first else names[-count:])
        decisions = space.everywhere(space.groupings[0], method)
        for name in kept:
            decisions = with_groups(space, decisions, name, space.groupings[-1], method, "none")
        paths.append(decisions)
    return paths


def grouped_by_likeness(space: Modular, method: str) -> list[Decisions]:
    """From experts alone to one merge, the two groups of one component joined whose least alike
    task vectors are most alike; needs no data. After FlexMerge (arXiv:2505.23209)."""
    likeness = space.candidates.likeness
    if likeness is None:
        raise ValueError(
            "grouping by likeness needs the experts' weights: give a bank's candidates"
        )
    cosines = {name: likeness(place) for name, place in space.places.items()}

    def alike(name: str, one: Sequence[int], other: Sequence[int]) -> float:
        return min(float(cosines[name][a, b]) for a in one for b in other)

    decisions = space.everywhere(space.groupings[-1], method)
    path: list[Decisions] = []
    while True:
        pairs = [
            (alike(name, one, other), name, one[0], other)
            for name in space.places
            for one, other in itertools.combinations(members_of(decisions[f"{name}:groups"]), 2)
        ]
        if not pairs:
            return path
        _, name, first, other = max(pairs, key=lambda pair: pair[0])
        labels = [int(letter) for letter in decisions[f"{name}:groups"]]
        joined = [labels[first] if at in other else label for at, label in enumerate(labels)]
        decisions = with_groups(space, decisions, name, canonical(joined), method, "none")
        path.append(decisions)
