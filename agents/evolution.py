"""(1+1) evolution, raced: the search that this project recommends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from agents.agent import Agent, agent
from agents.racing import Racer, race_starts
from merge_gym.settings import Range
from merge_gym.spaces.space import Decisions, Space
from merge_gym.studies.study import Study

SMALLEST, LARGEST = 0.02, 0.5

PATIENCE = 200
"""Races in a row that tell nothing new, after which a space counts as searched through."""


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
        if study.budget is None or study.budget < study.full_cost:
            raise ValueError(
                f"evolution needs a budget of at least one full evaluation, {study.full_cost} "
                f"examples, got {study.budget}"
            )

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        racer = Racer(study, self.z if self.racing else math.inf, generator)
        race_starts(racer)
        step, idle = self.step, 0
        while idle < PATIENCE:
            before = study.spent
            tried = float(np.clip(step * math.exp(0.7 * generator.normal()), SMALLEST, LARGEST))
            numbers = study.space.numbers(racer.incumbent)
            if not numbers or self._edits_now(study, generator):
                racer.race(self._edited(study.space, racer.incumbent, generator))
            else:
                moved = self._moved(study.space, racer.incumbent, numbers, tried, generator)
                won = racer.race(moved).won
                step = math.sqrt(step * tried) if won else max(SMALLEST, step * 0.995)
            idle = idle + 1 if study.spent == before else 0

    def _edits_now(self, study: Study, generator: np.random.Generator) -> bool:
        if not study.space.edits():
            return False
        assert study.budget is not None
        return study.spent < self.coarse * study.budget or generator.random() < self.edits

    def _edited(
        self, space: Space, incumbent: Decisions, generator: np.random.Generator
    ) -> Decisions:
        """The incumbent with edits at a few places, one of them at least new if there are such."""
        places, changed = space.edits(), incumbent
        for _ in range(PATIENCE):
            count = min(int(generator.integers(1, self.most + 1)), len(places))
            changed = dict(incumbent)
            for place in generator.choice(list(places), size=count, replace=False):
                changed |= places[place][int(generator.integers(len(places[place])))]
            if changed != incumbent:
                break
        return changed

    def _moved(
        self,
        space: Space,
        incumbent: Decisions,
        numbers: list[str],
        step: float,
        generator: np.random.Generator,
    ) -> Decisions:
        blocks = space.blocks(incumbent)
        if blocks and generator.random() < self.blocks:
            block = blocks[int(generator.integers(len(blocks)))]
            return space.shift(incumbent, block, step, generator)
        count = min(int(generator.integers(1, self.most + 1)), len(numbers))
        chosen = generator.choice(numbers, size=count, replace=False)
        return space.mutate(incumbent, [str(name) for name in chosen], step, generator)
