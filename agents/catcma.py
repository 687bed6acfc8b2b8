"""CatCMA with margin: an evolution strategy over numbers and choices together."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from agents.agent import Agent, agent
from agents.encoding import library, scaled, unscaled, words
from agents.racing import PATIENCE, Racer, race_starts
from agents.subsets import Turns, check_final, finals
from merge_gym.settings import Range, Setting
from merge_gym.spaces.space import Decisions
from merge_gym.studies.selection import select
from merge_gym.studies.study import BudgetSpent, Study


@agent("catcma")
@dataclass
class CatCMA(Agent):
    """Samples a population around a mean, scores it on one subset, and moves mean, covariance and
    the choices' probabilities to its better half; at the end the most promising are scored again on
    the whole search split (Hamano et al., arXiv:2405.09962; the package cmaes).

    It begins around the best of the space's starts.

    Args:
        step: the first step size, as a share of a number's range.
        bias: the probability of the best start's word for each choice at first, beyond what every
            word has alike.
        final: the share of the budget that is kept for the final scoring.
    """

    step: Annotated[float, Range(0.001, 1)] = 0.15
    bias: Annotated[float, Range(0, 0.99)] = 0.7
    final: Annotated[float, Range(0, 1)] = 0.3

    def check(self, study: Study) -> None:
        check_final("catcma", self.final, study)
        library("catcma", "cmaes")

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        turns, top, idle = Turns(study.subset_count, generator), finals(self.final, study), 0
        with suppress(BudgetSpent), study.keeping_back(top * study.full_cost):
            racer = Racer(study, 0.0, generator)
            race_starts(racer)
            optimiser = self._optimiser(study, racer.incumbent)
            while idle < PATIENCE:
                before = study.spent
                asked = [optimiser.ask() for _ in range(optimiser.population_size)]
                decisions = [self._decisions(study, one) for one in asked]
                trials = study.evaluate_all(decisions, (turns.next(),))
                scored = zip(asked, trials, strict=True)
                optimiser.tell([(one, -trial.mean) for one, trial in scored])
                idle = idle + len(asked) if study.spent == before else 0
        select(study, top)

    def _optimiser(self, study: Study, start: Decisions) -> Any:
        numbers, choices = _parts(study)
        widest = max((len(words(of)) for of in choices), default=0)
        odds = np.zeros((len(choices), widest))
        for row, setting in zip(odds, choices, strict=True):
            known = words(setting)
            row[: len(known)] = (1 - self.bias) / len(known)
            row[known.index(start[setting.name])] += self.bias
        return library("catcma", "cmaes").CatCMAwM(
            x_space=[[0.0, 1.0]] * len(numbers) or None,
            c_space=[len(words(of)) for of in choices] or None,
            mean=np.array([scaled(of, start[of.name]) for of in numbers]) if numbers else None,
            sigma=self.step if numbers else None,
            cat_param=odds if choices else None,
            seed=study.seed,
        )

    def _decisions(self, study: Study, asked: Any) -> Decisions:
        numbers, choices = _parts(study)
        decisions: Decisions = {}
        for at, setting in enumerate(numbers):
            decisions[setting.name] = unscaled(setting, float(asked.x[at]))
        for at, setting in enumerate(choices):
            decisions[setting.name] = words(setting)[int(asked.c[at].argmax())]
        return decisions


def _parts(study: Study) -> tuple[list[Setting], list[Setting]]:
    """The decisions on numbers, and those on one of a few words; a choice of one is neither."""
    settings = study.space.decisions.values()
    numbers = [of for of in settings if not words(of)]
    return numbers, [of for of in settings if len(words(of)) > 1]
