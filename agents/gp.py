"""Bayesian optimisation: a Gaussian process says which change of the best so far to race next."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from agents.agent import Agent, agent
from agents.changes import Changes
from agents.encoding import scaled, words
from agents.improvement import expected_improvement
from agents.racing import PATIENCE, Race, Racer, check_budget, race_starts
from merge_gym.settings import Range, Setting
from merge_gym.spaces.space import Decisions, Space
from merge_gym.studies.study import Study

Array = NDArray[np.float64]

LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
REFIT = 8
MEMORY = 300
WORST = -10.0


@agent("gp")
@dataclass
class GaussianProcess(Agent):
    """Keeps a Gaussian process over all that was raced, and races the change of the best so far
    whose expected improvement is the largest.

    It begins at the best of the space's starts. Two recipes are as far apart as the number of
    choices that differ, and the numbers that do, a number counting for one from 0.3 of its range
    on; what a dropped challenger left open enters as noise of its own.

    Args:
        z: of the race, in standard errors; the fewer, the sooner challengers are dropped.
        pool: how many changes the process is asked about.
        most: how many edits or numbers are changed at once, at most.
        edits: how often a change is an edit where numbers can be moved too.
        step: the standard deviation of a number's move, as a share of its range.
    """

    z: Annotated[float, Range(0)] = 0.5
    pool: Annotated[int, Range(1)] = 150
    most: Annotated[int, Range(1)] = 3
    edits: Annotated[float, Range(0, 1)] = 0.3
    step: Annotated[float, Range(0, 1)] = 0.15

    def check(self, study: Study) -> None:
        check_budget("gp", study)

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        racer = Racer(study, self.z, generator)
        model, changes = Process(study.space), Changes(study.space, self.most, generator)
        for race in race_starts(racer):
            model.tell(race, 100 * study.evaluate(race.incumbent).mean)
        model.know(racer.incumbent, racer.score, 0.0)
        idle = 0
        while idle < PATIENCE:
            drawn = [
                changes.changed(racer.incumbent, self.edits, self.step) for _ in range(self.pool)
            ]
            new = [decisions for decisions in drawn if not model.knows(decisions)]
            idle = 0 if new else idle + self.pool
            if new:
                score = racer.score
                race = racer.race(new[int(model.improvements(new, score).argmax())])
                model.tell(race, score)


class Process:
    """A Gaussian process over a space's decisions with kernel exp(-distance / length).

    The length is the likeliest of a few, and the amplitude the likeliest for it. Of more than 300
    recipes it keeps the latest and the best. A score is taken for no worse than 10 points below the
    median: how bad a failed merge is says nothing about good ones.

    Args:
        space: of the decisions.
    """

    def __init__(self, space: Space) -> None:
        self._features = Features(space)
        self._rows = np.empty((0, len(space.decisions)))
        self._apart = np.empty((0, 0))
        self._scores, self._noise = np.empty(0), np.empty(0)
        self._length, self._told = 4.0, 0
        self._known: set[bytes] = set()

    def knows(self, decisions: Decisions) -> bool:
        """Whether it was told of decisions that differ in nothing that tells."""
        return self._features.of(decisions).tobytes() in self._known

    def tell(self, race: Race, score: float) -> None:
        """Learn from a race with an incumbent of this score, in points."""
        self.know(race.challenger, score + race.difference, race.variance)

    def know(self, decisions: Decisions, score: float, variance: float) -> None:
        """Learn that decisions score so many points, with an error of this variance."""
        row = self._features.of(decisions)[None]
        self._known.add(row.tobytes())
        apart = self._features.distances(self._rows, row)
        self._rows = np.concatenate([self._rows, row])
        self._apart = np.block([[self._apart, apart], [apart.T, np.zeros((1, 1))]])
        self._scores = np.append(self._scores, score)
        self._noise = np.append(self._noise, variance)
        self._told += 1
        if len(self._rows) > MEMORY:
            self._forget(int(np.argmin(self._scores[: MEMORY // 2])))

    def _forget(self, at: int) -> None:
        self._rows = np.delete(self._rows, at, 0)
        self._apart = np.delete(np.delete(self._apart, at, 0), at, 1)
        self._scores, self._noise = np.delete(self._scores, at), np.delete(self._noise, at)

    def improvements(self, several: list[Decisions], best: float) -> Array:
        """The expected improvement of each of several decisions over a score of `best` points."""
        scores, noise = self._standardised()
        if self._told % REFIT == 1:
            self._length = max(LENGTHS, key=lambda of: _likelihood(self._apart, of, scores, noise))
        factor, weights, amplitude = _fitted(self._apart, self._length, scores, noise)
        new = np.array([self._features.of(decisions) for decisions in several])
        kernel = np.exp(-self._features.distances(self._rows, new) / self._length)
        mean = kernel.T @ weights
        spread = 1 - (solve_triangular(factor, kernel, lower=True) ** 2).sum(0)
        sd = np.sqrt(np.maximum(amplitude * spread, 1e-9))
        return expected_improvement(mean - (best - self._centre) / self._scale, sd)

    def _standardised(self) -> tuple[Array, Array]:
        """Scores and the variances of their errors, in units of the scores' spread."""
        scores = np.maximum(self._scores, np.median(self._scores) + WORST)
        self._centre, self._scale = float(scores.mean()), float(scores.std()) + 0.3
        standard = (scores - self._centre) / self._scale
        return standard, 0.05**2 + self._noise / self._scale**2


class Features:
    """Decisions as numbers whose differences are distances; what does not tell is the same in all.

    Args:
        space: of the decisions.
    """

    REACH = 0.3

    def __init__(self, space: Space) -> None:
        self._space = space
        settings = space.decisions.values()
        self._choices = np.array([setting.kind != "number" for setting in settings])

    def of(self, decisions: Decisions) -> Array:
        """One number for each decision, shape (d,)."""
        active = set(self._space.active(decisions))
        return np.array(
            [
                _place(setting, decisions[name]) if name in active else -1.0
                for name, setting in self._space.decisions.items()
            ]
        )

    def distances(self, one: Array, other: Array) -> Array:
        """(n, m) of rows (n, d) and (m, d)."""
        choices = one[:, None, self._choices] != other[None, :, self._choices]
        numbers = np.abs(one[:, None, ~self._choices] - other[None, :, ~self._choices])
        near = np.minimum(numbers / self.REACH, 1.0)
        return np.asarray(choices.sum(-1) + near.sum(-1))


def _place(setting: Setting, value: Any) -> float:
    """A word's number, or where in its range a number lies."""
    known = words(setting)
    return float(known.index(value)) if known else scaled(setting, value)


def _fitted(apart: Array, length: float, scores: Array, noise: Array) -> tuple[Array, Array, float]:
    """The kernel's Cholesky factor, the weights of its columns, and the likeliest amplitude."""
    factor = cholesky(np.exp(-apart / length) + np.diag(noise), lower=True)
    weights = cho_solve((factor, True), scores)
    return factor, weights, max(float(scores @ weights) / len(scores), 0.05)


def _likelihood(apart: Array, length: float, scores: Array, noise: Array) -> float:
    """The log likelihood of the scores, up to a constant."""
    factor, _, amplitude = _fitted(apart, length, scores, noise)
    return float(-0.5 * len(scores) * math.log(amplitude) - np.log(np.diag(factor)).sum())
