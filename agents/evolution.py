"""(1+1) evolution, raced: the search that this project recommends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from agents.agent import Agent, agent
from agents.changes import Changes
from agents.racing import PATIENCE, Racer, check_budget, race_starts
from merge_gym.settings import Range
from merge_gym.studies.study import Study

SMALLEST, LARGEST = 0.02, 0.5


@agent("evolution")
@dataclass
class Evolution(Agent):
    """Changes a little of the best so far, and keeps the change if it wins a race.

    It begins at the best of the space's starts, which race too. At first it makes coarse edits
    only, one to `most` at once, such as another source for a layer; then mostly moves numbers, a
    few single ones or a block of them that belongs together. A step is drawn around a step size
    that follows the steps that won (log-normal self-adaptation). It ends with the budget, or where
    it finds nothing any more that was not scored.

    Args:
        z: of the race, in standard errors; the fewer, the sooner challengers are dropped.
        most: how many edits, or single decisions, are changed at once, at most.
        coarse: the share of the budget that is spent on coarse edits alone.
        edits: how often an edit is tried after that.
        blocks: how often a move is that of a block.
        step: the first step size, as a share of a number's range.
        racing: whether challengers race; otherwise each is scored on the whole search split.
    """

    z: Annotated[float, Range(0)] = 0.5
    most: Annotated[int, Range(1)] = 3
    coarse: Annotated[float, Range(0, 1)] = 0.3
    edits: Annotated[float, Range(0, 1)] = 0.2
    blocks: Annotated[float, Range(0, 1)] = 0.5
    step: Annotated[float, Range(SMALLEST, LARGEST)] = 0.15
    racing: bool = True

    def check(self, study: Study) -> None:
        check_budget("evolution", study)

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        racer = Racer(study, self.z if self.racing else math.inf, generator)
        race_starts(racer)
        changes = Changes(study.space, self.most, generator)
        step, idle = self.step, 0
        while idle < PATIENCE:
            before = study.spent
            tried = float(np.clip(step * math.exp(0.7 * generator.normal()), SMALLEST, LARGEST))
            numbers = study.space.numbers(racer.incumbent)
            if not numbers or (changes.places and self._edits_now(study, generator)):
                racer.race(changes.edited(racer.incumbent))
            else:
                won = racer.race(changes.moved(racer.incumbent, tried, self.blocks)).won
                step = math.sqrt(step * tried) if won else max(SMALLEST, step * 0.995)
            idle = idle + 1 if study.spent == before else 0

    def _edits_now(self, study: Study, generator: np.random.Generator) -> bool:
        assert study.budget is not None
        return study.spent < self.coarse * study.budget or generator.random() < self.edits
