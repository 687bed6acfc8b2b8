"""Random decisions: the baseline of every search of a space."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from agents.agent import Agent, agent
from agents.racing import PATIENCE
from agents.subsets import Turns, check_final, finals
from merge_gym.settings import Range
from merge_gym.studies.selection import select
from merge_gym.studies.study import BudgetSpent, Study


@agent("random_search")
@dataclass
class RandomSearch(Agent):
    """Draws every decision uniformly from its range and scores it on one subset, each subset in
    turn; at the end the most promising are scored again on the whole search split.

    Args:
        final: the share of the budget that is kept for that.
    """

    final: Annotated[float, Range(0, 1)] = 0.3

    def check(self, study: Study) -> None:
        check_final("random_search", self.final, study)

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        turns, top, idle = Turns(study.subset_count, generator), finals(self.final, study), 0
        with suppress(BudgetSpent), study.keeping_back(top * study.full_cost):
            while idle < PATIENCE:
                before = study.spent
                study.evaluate(study.space.sample(generator), (turns.next(),))
                idle = idle + 1 if study.spent == before else 0
        select(study, top)
