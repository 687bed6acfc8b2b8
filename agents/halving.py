"""Successive halving of mutants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from agents.agent import Agent, agent
from agents.changes import Changes
from agents.racing import PATIENCE, Racer, check_budget, race_starts
from merge_gym.settings import Range
from merge_gym.spaces.space import Decisions
from merge_gym.studies.study import Study


@agent("halving")
@dataclass
class Halving(Agent):
    """Scores many changes of the best so far on one subset, the better part of them on more, and so
    on; the last one left meets the best so far (Jamieson and Talwalkar, arXiv:1502.07943).

    It begins at the best of the space's starts. All mutants of a generation meet the same subsets.

    Args:
        mutants: of a generation.
        eta: one in eta survives each round, which sees eta times as many subsets.
        most: how many edits or numbers are changed at once, at most.
        edits: how often a mutant is an edit where numbers can be moved too.
        step: the standard deviation of a number's move, as a share of its range.
    """

    mutants: Annotated[int, Range(2)] = 16
    eta: Annotated[int, Range(2)] = 2
    most: Annotated[int, Range(1)] = 3
    edits: Annotated[float, Range(0, 1)] = 0.5
    step: Annotated[float, Range(0, 1)] = 0.15

    def check(self, study: Study) -> None:
        check_budget("halving", study)

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        racer = Racer(study, 0.0, generator)
        race_starts(racer)
        changes = Changes(study.space, self.most, generator)
        idle = 0
        while idle < PATIENCE:
            before = study.spent
            last = self._last(racer, changes)
            if study.evaluate(last).mean > study.evaluate(racer.incumbent).mean:
                racer.install(last)
            idle = idle + 1 if study.spent == before else 0

    def _last(self, racer: Racer, changes: Changes) -> Decisions:
        """The one of a generation that is left."""
        study = racer.study
        left = [
            changes.changed(racer.incumbent, self.edits, self.step) for _ in range(self.mutants)
        ]
        subsets = changes.generator.permutation(study.subset_count).tolist()
        seen = 1
        while len(left) > 1:
            trials = study.evaluate_all(left, tuple(subsets[:seen]))
            best = sorted(range(len(left)), key=lambda at: -trials[at].mean)
            left = [left[at] for at in best[: max(1, len(left) // self.eta)]]
            seen = min(seen * self.eta, study.subset_count)
        return left[0]
