"""Dropping a challenger early: it meets the incumbent subset by subset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from merge_gym.evaluation.races import PRIOR_RACES, PRIOR_SD, hopeless
from merge_gym.spaces.space import Decisions
from merge_gym.studies.study import Study

PATIENCE = 200
"""Races in a row that tell nothing new, after which a space counts as searched through."""


def check_budget(name: str, study: Study) -> None:
    """ValueError where the budget does not pay for one full evaluation."""
    if study.budget is None or study.budget < study.full_cost:
        raise ValueError(
            f"{name} needs a budget of at least one full evaluation, {study.full_cost} examples, "
            f"got {study.budget}"
        )


@dataclass(frozen=True)
class Race:
    """How a challenger did.

    Attributes:
        won: whether it was better over all subsets; otherwise it was dropped, or lost.
        subsets: on how many it was scored.
        difference: mean over those of its score × 100 less the incumbent's.
        variance: of that mean as an estimate of the difference on the whole search split.
        challenger, incumbent: the decisions that met.
    """

    won: bool
    subsets: int
    difference: float
    variance: float
    challenger: Decisions
    incumbent: Decisions


class Racer:
    """Compares decisions with an incumbent on the same subsets, in a random order.

    A challenger is dropped when it is hopeless (`merge_gym.evaluation.races`). The standard
    deviation of a difference on one subset is estimated from all races so far.

    Args:
        study: what scores and charges.
        z: the fewer, the sooner challengers are dropped; infinity never drops one.
        generator: orders the subsets.
    """

    def __init__(self, study: Study, z: float, generator: np.random.Generator) -> None:
        self.study, self.z, self.generator = study, z, generator
        self._squares, self._count = PRIOR_SD**2 * PRIOR_RACES, PRIOR_RACES
        self.incumbent: Decisions = {}
        self.score = -math.inf
        self._scores: dict[int, float] = {}

    @property
    def sd(self) -> float:
        """The standard deviation of a difference on one subset, in points."""
        return math.sqrt(self._squares / self._count)

    def install(self, decisions: Mapping[str, Any]) -> None:
        """Make decisions the incumbent, scored on the whole search split."""
        self.incumbent = dict(decisions)
        self.score = 100 * self.study.evaluate(decisions).mean
        self._scores = {}

    def race(self, challenger: Mapping[str, Any], z: float | None = None) -> Race:
        """Score a challenger as long as it may win; where it does, it is the incumbent then.

        Args:
            challenger: decisions.
            z: of this race, where it is not that of all.
        """
        count, z = self.study.subset_count, self.z if z is None else z
        differences: list[float] = []
        for subset in self.generator.permutation(count).tolist():
            score = 100 * self.study.evaluate(challenger, (subset,)).mean
            differences.append(score - self._incumbents(subset))
            m, mean = len(differences), math.fsum(differences) / len(differences)
            if hopeless(mean, m, count, self.sd, z):
                break
        self._learn(differences, mean)
        won, met = m == count and mean > 0, self.incumbent
        if won:
            self.install(challenger)
        variance = self.sd**2 * (1 / m - 1 / count)
        return Race(won, m, mean, variance, dict(challenger), met)

    def _incumbents(self, subset: int) -> float:
        if subset not in self._scores:
            self._scores[subset] = 100 * self.study.evaluate(self.incumbent, (subset,)).mean
        return self._scores[subset]

    def _learn(self, differences: list[float], mean: float) -> None:
        if len(differences) > 1:
            self._squares += sum((one - mean) ** 2 for one in differences)
            self._count += len(differences) - 1


SURE = 3.0


def race_starts(racer: Racer) -> list[Race]:
    """Install the best of the space's starts: the first is scored whole, the others race, in races
    that are returned.

    They are few and the whole search stands on them, so only one that is worse by `SURE` standard
    errors is dropped. On fashion-halves-0 and -1 that never lost the best of 7 starts in 240
    searches, and cost 2.7 full evaluations; z = 0.5 cost 2.4 and lost it in one search of seven.
    """
    starts = list(racer.study.space.starts().values())
    racer.install(starts[0])
    return [racer.race(start, max(racer.z, SURE)) for start in starts[1:]]
