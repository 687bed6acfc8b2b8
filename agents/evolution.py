"""(1+1) evolution, raced: the search that this project recommends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from agents.agent import Agent, agent
from agents.racing import Racer, race_starts
from merge_gym.settings import Range
from merge_gym.spaces.space import Decisions
from merge_gym.studies.study import Study

SMALLEST, LARGEST = 0.02, 0.5


@agent("evolution")
@dataclass
class Evolution(Agent):
    """Changes a few decisions of the best so far, and keeps the change if it wins a race.

    It begins at the best of the space's starts, which race too. A number's step is drawn around a
    step size that follows the steps that won (log-normal self-adaptation); at the same number of
    decisions, late ones are changed more often, since such recipes share their prefixes.

    Args:
        z: of the race, in standard errors; the fewer, the sooner challengers are dropped.
        most: how many decisions are changed at once, at most.
        blocks: how often whole blocks of decisions that belong together are changed at once,
            instead of a few single ones.
        step: the first step size, as a share of a decision's range.
        racing: whether challengers race; otherwise each is scored on the whole search split.
    """

    z: Annotated[float, Range(0)] = 0.5
    most: Annotated[int, Range(1)] = 3
    blocks: Annotated[float, Range(0, 1)] = 0.5
    step: Annotated[float, Range(SMALLEST, LARGEST)] = 0.15
    racing: bool = True

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        racer = Racer(study, self.z if self.racing else math.inf, generator)
        race_starts(racer)
        step = self.step
        while True:
            tried = float(np.clip(step * math.exp(0.7 * generator.normal()), SMALLEST, LARGEST))
            challenger = self._challenger(study, racer.incumbent, tried, generator)
            if challenger == racer.incumbent:
                continue
            won = racer.race(challenger).won
            step = math.sqrt(step * tried) if won else max(SMALLEST, step * 0.995)

    def _challenger(
        self, study: Study, incumbent: Decisions, step: float, generator: np.random.Generator
    ) -> Decisions:
        space = study.space
        active = space.active(incumbent)
        blocks = space.blocks(incumbent)
        if blocks and generator.random() < self.blocks:
            names = blocks[int(generator.integers(len(blocks)))]
            return space.shift(incumbent, names, step, generator)
        count = min(int(generator.integers(1, self.most + 1)), len(active))
        chosen = generator.choice(len(active), size=count, replace=False)
        return space.mutate(incumbent, [active[place] for place in chosen], step, generator)
