"""The rules of `ModelEdit-v0`: incumbents, the edits that challenge them, and the races."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge_gym.evaluation.races import PRIOR_RACES, PRIOR_SD, hopeless
from merge_gym.evaluation.scorer import NOTHING, Request, Scorer
from merge_gym.evaluation.table import Table
from merge_gym.recipe import Recipe
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.edits import Codes, Edits

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]

UNIFORM_Z = 3.0
"""Of the races between uniform merges: the search stands on them, so few are dropped."""


class Incumbents:
    """N incumbents of one scorer, each raced against its challengers.

    Args:
        candidates: what layers come from.
        scorer: what scores recipes.
        budget: of an episode, in full evaluations.
        z: of the races (`merge_gym.evaluation.races.hopeless`); None drops no challenger.
        start: `uniform`, the best uniform merge, or `random`, any recipe without stacking.
        invalid_reward: the reward of an edit that the mask forbids.
        stacking: whether layers may be stacked; a table knows no such recipes.
        count: N.

    Attributes:
        edits: what an edit may be.
        total: the budget in examples.
        most: how many steps an episode has at most.
        codes: the incumbents, shape (N, L).
        scores: {task: of the incumbents on the whole search split, shape (N,)}.
        spent: examples pushed through a whole model in this episode, shape (N,).
        won: whether the last challenger became the incumbent, shape (N,).
        met: on how many subsets it was scored, shape (N,).
        results: what each edit gave when it was last tried in this episode, in points; 0 where it
            was not; shape (N, L·(C+2)).
    """

    def __init__(
        self,
        candidates: Candidates,
        scorer: Scorer,
        budget: float,
        z: float | None,
        start: str,
        invalid_reward: float,
        stacking: bool,
        count: int,
    ) -> None:
        self.candidates, self.scorer, self.count = candidates, scorer, count
        self.z, self.start, self.invalid_reward = np.inf if z is None else z, start, invalid_reward
        self.edits = Edits(len(candidates), candidates.depth, stacking)
        subsets = range(scorer.subset_count)
        self._costs = np.array([scorer.cost(Request(NOTHING, subsets=(one,))) for one in subsets])
        self.total = round(budget * int(self._costs.sum()))
        self.most = -(-self.total // int(self._costs.min()))
        self._points = _points(scorer) if isinstance(scorer, Table) else None
        self._best_uniform: tuple[Codes, Floats, int] | None = None
        self.codes = np.zeros((count, candidates.depth), np.int64)
        self.scores = {task: np.zeros(count) for task in scorer.tasks}
        self.spent, self.steps, self.met = np.zeros((3, count), np.int64)
        self.won = np.zeros(count, np.bool_)
        self.results = np.zeros((count, len(self.edits)))
        self._tried = np.zeros((count, len(self.edits)), np.bool_)
        self._on_subsets = np.zeros((count, scorer.subset_count))
        self._squares, self._races = np.zeros((2, count))

    @property
    def score(self) -> Floats:
        """The mean over tasks of the incumbents' scores × 100, shape (N,)."""
        return 100 * np.mean(list(self.scores.values()), axis=0)

    @property
    def maps(self) -> NDArray[np.float32]:
        """The merging maps of the incumbents, shape (N, C, L)."""
        return self.edits.maps(self.codes)

    @property
    def depth(self) -> Numbers:
        """How many layers the incumbents have, shape (N,)."""
        return self.maps.sum(axis=(1, 2)).astype(np.int64)

    @property
    def ended(self) -> Flags:
        """Where the budget does not pay for another subset, or every edit was tried."""
        spent = self.total - self.spent < self._costs.max()
        return spent | (self.steps >= self.most) | ~self.mask().any(axis=1)

    def mask(self) -> Flags:
        """Which edits change the incumbent and were not tried against it, (N, L·(C+2))."""
        return self.edits.mask(self.codes) & ~self._tried

    def recipe(self, row: int) -> Recipe:
        """One of the incumbents."""
        return self._recipe(self.codes[row])

    def encoded(self) -> Numbers:
        """The layers of the incumbents, in order, each as layer · C + candidate; -1 for the rest;
        shape (N, 2·L)."""
        numbers = np.full((self.count, 2 * self.edits.layers), -1)
        twice, source = np.divmod(self.codes, self.edits.skip + 1)
        rows, layers = np.nonzero(source < self.edits.skip)
        rows, layers = (np.repeat(of, 1 + twice[rows, layers]) for of in (rows, layers))
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        numbers[rows, place] = layers * self.edits.candidates + source[rows, layers]
        return numbers

    def begin(self, rows: Flags, generator: np.random.Generator) -> None:
        """Begin an episode in each of `rows`; ValueError where the budget does not pay for it."""
        chosen = np.flatnonzero(rows)
        if not len(chosen):
            return
        start = self._random if self.start == "random" else self._uniform
        codes, points, cost = start(len(chosen), generator)
        if self.total - cost < self._costs.max():
            raise ValueError(
                f"the {self.start} start of an episode costs {cost} examples, more than a budget "
                f"of {self.total} leaves room for: give a budget of at least "
                f"{cost / int(self._costs.sum()) + 1:.1f} full evaluations"
            )
        self.spent[chosen], self.steps[chosen], self.met[chosen] = cost, 0, 0
        self.won[chosen], self.results[chosen] = False, 0.0
        self._squares[chosen], self._races[chosen] = PRIOR_SD**2 * PRIOR_RACES, PRIOR_RACES
        self._install(chosen, codes, points)

    def step(self, actions: Numbers, rows: Flags, generator: np.random.Generator) -> Floats:
        """Apply an edit in each of `rows`; returns the rewards, shape (N,)."""
        allowed = self.mask()[np.arange(self.count), np.where(rows, actions, 0)]
        rewards = np.where(rows & ~allowed, self.invalid_reward, 0.0)
        self.won[rows], self.met[rows] = False, 0
        self.steps += rows
        raced = np.flatnonzero(rows & allowed)
        if len(raced):
            rewards[raced] = self._challenge(raced, actions[raced], generator)
        return rewards

    def _challenge(self, rows: Numbers, edits: Numbers, generator: np.random.Generator) -> Floats:
        """Race the edited incumbents of `rows`; returns the mean differences."""
        before, own = self.codes[rows], self._on_subsets[rows]
        challengers = self.edits.apply(before, edits)
        sd = np.sqrt(self._squares[rows] / self._races[rows])
        left = self.total - self.spent[rows]
        points, met, cost = self._race(challengers, own, sd, self.z, left, generator)
        differences = points - own
        means = np.nansum(differences, axis=1) / met
        self._squares[rows] += np.nansum((differences - means[:, None]) ** 2, axis=1)
        self._races[rows] += met - 1
        self.spent[rows] += cost
        self.met[rows] = met
        self.results[rows, edits] = means
        self._tried[rows, edits] = True
        won = (met == self.scorer.subset_count) & (means > 0)
        self.won[rows] = won
        winners, undo = rows[won], self.edits.undoing(before, edits)[won]
        if len(winners):
            self._install(winners, challengers[won], points[won])
            self._tried[winners[undo >= 0], undo[undo >= 0]] = True
        return means

    def _race(
        self,
        challengers: Codes,
        incumbents: Floats,
        sd: Floats,
        z: float,
        left: Numbers,
        generator: np.random.Generator,
    ) -> tuple[Floats, Numbers, Numbers]:
        """Score challengers subset by subset, each in its own random order, as long as they may win
        and can be paid for.

        Returns their points on each subset (NaN where they were not scored), on how many they were,
        and the cost.
        """
        count, subsets = incumbents.shape
        orders = generator.permuted(np.tile(np.arange(subsets), (count, 1)), axis=1)
        points = np.full((count, subsets), np.nan)
        totals = np.zeros(count)
        met, cost = np.zeros((2, count), np.int64)
        going = np.arange(count)
        for place in range(subsets):
            payable = cost[going] + self._costs[orders[going, place]] <= left[going]
            going = going[payable]
            if not len(going):
                break
            subset = orders[going, place]
            points[going, subset] = self._on(challengers[going], subset)
            cost[going] += self._costs[subset]
            totals[going] += points[going, subset] - incumbents[going, subset]
            met[going] = place + 1
            means = totals[going] / (place + 1)
            going = going[~hopeless(means, place + 1, subsets, sd[going], z)]
        return points, met, cost

    def _install(self, rows: Numbers, codes: Codes, points: Floats) -> None:
        """Make recipes the incumbents of `rows`, scored on all subsets already."""
        self.codes[rows], self._on_subsets[rows] = codes, points
        self._tried[rows] = False
        for task, scores in self._whole(codes).items():
            self.scores[task][rows] = scores

    def _random(self, count: int, generator: np.random.Generator) -> tuple[Codes, Floats, int]:
        codes = generator.integers(self.edits.skip + 1, size=(count, self.edits.layers))
        return codes, self._everywhere(codes), int(self._costs.sum())

    def _uniform(self, count: int, generator: np.random.Generator) -> tuple[Codes, Floats, int]:
        """The best uniform merge, with what it cost to find: the same in every episode."""
        if self._best_uniform is None:
            self._best_uniform = self._race_uniform()
        codes, points, cost = self._best_uniform
        return codes.repeat(count, axis=0), points.repeat(count, axis=0), cost

    def _race_uniform(self) -> tuple[Codes, Floats, int]:
        """Score the first candidate's merge whole, and race the others'."""
        generator, z = np.random.default_rng(0), max(self.z, UNIFORM_Z)
        codes = np.zeros((1, self.edits.layers), np.int64)
        points, spent = self._everywhere(codes), int(self._costs.sum())
        unbounded, sd = np.array([np.iinfo(np.int64).max]), np.array([PRIOR_SD])
        for candidate in range(1, self.edits.candidates):
            other = np.full_like(codes, candidate)
            theirs, _, cost = self._race(other, points, sd, z, unbounded, generator)
            spent += int(cost[0])
            if (theirs - points).sum() > 0:  # NaN, where it was dropped, is not
                codes, points = other, theirs
        return codes, points, spent

    def _everywhere(self, codes: Codes) -> Floats:
        """The points of recipes on every subset, shape (n, S)."""
        subsets = self.scorer.subset_count
        every = np.tile(np.arange(subsets), len(codes))
        return self._on(codes.repeat(subsets, axis=0), every).reshape(-1, subsets)

    def _on(self, codes: Codes, subsets: Numbers) -> Floats:
        """The mean over tasks × 100 of each recipe on its subset, shape (n,)."""
        if self._points is not None:
            return self._points[self._places(codes), subsets]
        requests = [
            Request(self._recipe(code), subsets=(subset,))
            for code, subset in zip(codes, subsets.tolist(), strict=True)
        ]
        return 100 * np.array([outcome.mean for outcome in self.scorer.evaluate(requests)])

    def _whole(self, codes: Codes) -> dict[str, Any]:
        """{task: of recipes on the whole search split}."""
        if isinstance(self.scorer, Table):
            places = self._places(codes)
            return {task: of[places] for task, of in self.scorer.fractions().items()}
        outcomes = self.scorer.evaluate([Request(self._recipe(code)) for code in codes])
        return {task: [outcome.scores[task] for outcome in outcomes] for task in self.scorer.tasks}

    def _places(self, codes: Codes) -> Numbers:
        """Where recipes without stacking stand in a table."""
        return codes @ (self.edits.skip + 1) ** np.arange(self.edits.layers)[::-1]

    def _recipe(self, code: Codes) -> Recipe:
        return self.candidates.recipe(self.edits.taken(code))


def _points(table: Table) -> Floats:
    """Every recipe's mean over tasks × 100 on each subset, shape (recipes, S)."""
    return 100 * np.stack([table.scores(subset) for subset in range(table.subset_count)], axis=1)
