"""REINFORCE over the choices of a walk: a softmax policy for each layer, no network."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from agents.agent import Agent, agent
from agents.choices import Words, check_walk
from agents.racing import PATIENCE, Racer, race_starts
from agents.subsets import Turns, check_final, finals
from merge_gym.settings import Range
from merge_gym.studies.selection import select
from merge_gym.studies.study import BudgetSpent, Study

Floats = NDArray[np.float64]

LARGEST = 2.0
"""Standard deviations that an advantage counts for at most."""


@agent("reinforce")
@dataclass
class Reinforce(Agent):
    """Draws a batch of recipes from independent softmax policies, one a layer; scores all of it on
    one subset; and follows the policy gradient (Williams, 1992) with the mean of the others of the
    batch as each one's baseline (leave-one-out: Kool, van Hoof and Welling, 2019).

    What a subset has of its own falls out of the advantages, as all of a batch meet the same one.
    The policies begin at the best of the space's starts, which race. At the end the most promising
    recipes are scored again on the whole search split.

    Args:
        batch: how many recipes are drawn at once.
        learning_rate: of the policies' logits, for the square root of a batch.
        bias: the probability, at first, of the best start's choice at each layer.
        final: the share of the budget that is kept for the final scoring.
    """

    batch: Annotated[int, Range(2)] = 8
    learning_rate: Annotated[float, Range(0)] = 0.3
    bias: Annotated[float, Range(0.01, 0.99)] = 0.5
    final: Annotated[float, Range(0, 1)] = 0.3

    def check(self, study: Study) -> None:
        check_walk("reinforce", study)
        check_final("reinforce", self.final, study)

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        turns, top = Turns(study.subset_count, generator), finals(self.final, study)
        with suppress(BudgetSpent), study.keeping_back(top * study.full_cost):
            racer, words = Racer(study, 0.0, generator), Words(study.space)
            race_starts(racer)
            logits = np.zeros((words.layers, words.choices))
            likely = math.log(self.bias * (words.choices - 1) / (1 - self.bias))
            logits[np.arange(words.layers), words.read(racer.incumbent)] = likely
            sd, idle = 0.0, 0
            while idle < PATIENCE:
                before, policy = study.spent, softmax(logits)
                gumbels = generator.gumbel(size=(self.batch, *logits.shape))
                drawn = (logits + gumbels).argmax(axis=-1)
                trials = study.evaluate_all([words.spell(one) for one in drawn], (turns.next(),))
                scores = 100 * np.array([trial.mean for trial in trials])
                sd = 0.9 * sd + 0.1 * scores.std() if sd else float(scores.std())
                gains = np.clip(leave_one_out(scores) / (sd + 1e-6), -LARGEST, LARGEST)
                chosen = drawn[..., None] == np.arange(words.choices)
                gradient = (gains[:, None, None] * (chosen - policy)).mean(axis=0)
                logits += self.learning_rate * math.sqrt(self.batch) * gradient
                idle = idle + 1 if study.spent == before else 0
        select(study, top)


def leave_one_out(scores: Floats) -> Floats:
    """Each score less the mean of the others, shape (n,)."""
    return (scores - scores.mean()) * len(scores) / (len(scores) - 1)


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis."""
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))
