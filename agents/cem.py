"""The cross-entropy method: refit a distribution over decisions to the better of its draws."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from agents.agent import Agent, agent
from agents.encoding import scaled, unscaled, words
from agents.racing import PATIENCE, Racer, race_starts
from agents.subsets import Turns, check_final, finals
from merge_gym.settings import Range, Setting
from merge_gym.spaces.space import Decisions
from merge_gym.studies.selection import select
from merge_gym.studies.study import BudgetSpent, Study


class Belief:
    """Independent distributions over decisions: a choice's words by their probabilities, a number
    by a normal distribution over its range, which is scaled to [0, 1].

    Args:
        decisions: of a space.
        start: what is likeliest at first.
        bias: the probability of a choice's word in `start`, beyond what every word has alike.
    """

    FLOOR = 0.02

    def __init__(self, decisions: dict[str, Setting], start: Decisions, bias: float) -> None:
        self._settings = decisions
        self._odds = {}
        self._normal = {}
        for name, setting in decisions.items():
            if known := words(setting):
                odds = np.full(len(known), (1 - bias) / len(known))
                odds[known.index(start[name])] += bias
                self._odds[name] = odds
            else:
                self._normal[name] = scaled(setting, start[name]), 0.5 * (1 - bias)

    def draw(self, generator: np.random.Generator) -> Decisions:
        """Decisions drawn from it."""
        drawn: Decisions = {}
        for name, setting in self._settings.items():
            if name in self._odds:
                known = words(setting)
                drawn[name] = known[int(generator.choice(len(known), p=self._odds[name]))]
            else:
                mean, sd = self._normal[name]
                drawn[name] = unscaled(setting, float(generator.normal(mean, sd)))
        return drawn

    def fit(self, elite: list[Decisions], rate: float) -> None:
        """Move it by `rate` towards the frequencies, means and standard deviations of `elite`."""
        for name, odds in self._odds.items():
            known = words(self._settings[name])
            seen = np.array([sum(one[name] == word for one in elite) for word in known])
            mixed = (1 - rate) * odds + rate * seen / len(elite)
            kept = np.maximum(mixed, self.FLOOR / len(known))
            self._odds[name] = kept / kept.sum()
        for name, (mean, sd) in self._normal.items():
            values = [scaled(self._settings[name], one[name]) for one in elite]
            sd = (1 - rate) * sd + rate * float(np.std(values))
            self._normal[name] = (
                (1 - rate) * mean + rate * float(np.mean(values)),
                max(sd, self.FLOOR),
            )


@agent("cem")
@dataclass
class CrossEntropy(Agent):
    """Draws a batch, scores it on one subset, and refits to the better quarter; at the end the most
    promising are scored again on the whole search split (Rubinstein's cross-entropy method).

    It begins around the best of the space's starts.

    Args:
        batch: how many are drawn at once.
        elite: the share of a batch that is fitted.
        rate: how far each fit moves the distribution.
        bias: how much likelier the best start's decisions are at first.
        final: the share of the budget that is kept for the final scoring.
    """

    batch: Annotated[int, Range(2)] = 24
    elite: Annotated[float, Range(0, 1)] = 0.25
    rate: Annotated[float, Range(0, 1)] = 0.7
    bias: Annotated[float, Range(0, 1)] = 0.5
    final: Annotated[float, Range(0, 1)] = 0.3

    def check(self, study: Study) -> None:
        check_final("cem", self.final, study)

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        turns, top = Turns(study.subset_count, generator), finals(self.final, study)
        with suppress(BudgetSpent), study.keeping_back(top * study.full_cost):
            racer = Racer(study, 0.0, generator)
            race_starts(racer)
            belief = Belief(dict(study.space.decisions), racer.incumbent, self.bias)
            idle = 0
            while idle < PATIENCE:
                before = study.spent
                drawn = [belief.draw(generator) for _ in range(self.batch)]
                trials = study.evaluate_all(drawn, (turns.next(),))
                best = sorted(range(self.batch), key=lambda at: -trials[at].mean)
                count = max(1, round(self.elite * self.batch))
                belief.fit([drawn[at] for at in best[:count]], self.rate)
                idle = idle + self.batch if study.spent == before else 0
        select(study, top)
