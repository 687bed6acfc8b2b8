"""Local search, raced: one change at a time, until none is better."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from agents.agent import Agent, agent
from agents.changes import Changes
from agents.racing import PATIENCE, Racer, check_budget, race_starts
from merge_gym.settings import Range
from merge_gym.spaces.space import Decisions, shifted
from merge_gym.studies.study import Study

SMALLEST = 0.01


@agent("local_search")
@dataclass
class LocalSearch(Agent):
    """Tries every single change of the best so far in a random order, and keeps what wins a race.

    It begins at the best of the space's starts. A change is an edit at one place, or one number
    moved up or down by the step. After a round without a winner the step is halved, and where there
    is no step left, `kick` places are edited at once until something wins: by then all single
    changes are known to lose. It ends with the budget, or where nothing is left to try.

    Args:
        z: of the race, in standard errors; the fewer, the sooner challengers are dropped.
        step: the first step, as a share of a number's range.
        kick: how many places are edited at once, at most, where no single change wins.
        racing: whether challengers race; otherwise each is scored on the whole search split.
    """

    z: Annotated[float, Range(0)] = 0.5
    step: Annotated[float, Range(SMALLEST, 1)] = 0.2
    kick: Annotated[int, Range(2)] = 3
    racing: bool = True

    def check(self, study: Study) -> None:
        check_budget("local_search", study)

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        racer = Racer(study, self.z if self.racing else math.inf, generator)
        race_starts(racer)
        step, left = self.step, True
        while left:
            if self._round(racer, step, generator):
                continue
            numbers = study.space.numbers(racer.incumbent)
            step = step / 2 if numbers else 0.0
            if step < SMALLEST:
                left, step = self._kicked(racer, generator), self.step

    def _round(self, racer: Racer, step: float, generator: np.random.Generator) -> bool:
        """Race every single change of the incumbent, which may become another meanwhile; whether
        it did."""
        changes = list(self._changes(racer, step))
        won = False
        for at in generator.permutation(len(changes)).tolist():
            place, what = changes[at]
            challenger = self._changed(racer, place, what)
            won |= challenger != racer.incumbent and racer.race(challenger).won
        return won

    def _changes(self, racer: Racer, step: float) -> Iterator[tuple[str, Decisions | float]]:
        """(place, edit) and (number, by how much of its range)."""
        space = racer.study.space
        for place, edits in space.edits().items():
            for edit in edits:
                yield place, edit
        for name in space.numbers(racer.incumbent):
            yield name, step
            yield name, -step

    def _changed(self, racer: Racer, place: str, what: Decisions | float) -> Decisions:
        if isinstance(what, dict):
            return racer.incumbent | what
        setting = racer.study.space.decisions[place]
        return racer.incumbent | {place: shifted(setting, racer.incumbent[place], what)}

    def _kicked(self, racer: Racer, generator: np.random.Generator) -> bool:
        """Race edits at several places until one wins; False where everything seems known."""
        idle = 0
        changes = Changes(racer.study.space, self.kick, generator)
        while idle < PATIENCE and changes.places:
            spent = racer.study.spent
            if racer.race(changes.edited(racer.incumbent)).won:
                return True
            idle = idle + 1 if racer.study.spent == spent else 0
        return False
