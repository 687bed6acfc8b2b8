"""What the runs of a plan say: regrets by agent and budget, and their statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from statistics import median

import numpy as np

from experiments.benchmarking.plan import Plan, open_table
from experiments.benchmarking.results import Row, score
from experiments.benchmarking.statistics import (
    Estimate,
    Values,
    estimate,
    improvement,
    interquartile_mean,
)

WITHIN = 1.0
"""Points of regret that count as near the optimum."""

YARDSTICKS = ("random", "ppo", "local_search")
"""What every agent is held against, where a plan has it: chance, the published search, and the same
races without learning."""


@dataclass(frozen=True)
class Problem:
    """A table, in percent of its search split.

    Attributes:
        name, recipes: of the table.
        optimum: its best recipe's score.
        uniform: the best of the recipes that take one candidate at every layer.
        chance: the mean over all recipes.
    """

    name: str
    recipes: int
    optimum: float
    uniform: float
    chance: float

    @classmethod
    def of(cls, name: str, subsets: int) -> Problem:
        table = open_table(name, subsets)
        candidates = table.candidates
        places = [table.index(candidates.repeated(source)) for source in candidates.sources]
        return cls(
            name=name,
            recipes=len(table),
            optimum=100 * table.optimum()[1],
            uniform=max(score(table, place) for place in places),
            chance=100 * float(table.scores().mean()),
        )


@dataclass(frozen=True)
class Standing:
    """How one agent did at one budget.

    Attributes:
        runs: how many.
        regret: the interquartile mean over all runs, in points of the search split.
        optimum: the share of runs that found the table's best.
        test: the mean over runs on the test split, in percent; None where it is not known.
        seconds: of CPU, the median run's.
    """

    label: str
    budget: float
    runs: int
    regret: Estimate
    optimum: float
    test: float | None
    seconds: float


class Standings:
    """The statistics of a plan's runs.

    Args:
        plan: what was to be run.
        rows: the runs; of an agent at a budget the seeds from 0 on count that are there on every
            table.
    """

    def __init__(self, plan: Plan, rows: Sequence[Row]) -> None:
        self.plan = plan
        self._standings: dict[tuple[str, float], Standing] = {}
        by_place: dict[tuple[str, float], dict[tuple[str, int], Row]] = {}
        for row in rows:
            by_place.setdefault((row.label, row.budget), {})[row.table, row.seed] = row
        self._rows = {
            place: whole for place, of in by_place.items() if len(whole := self._whole(of))
        }

    def _whole(self, rows: Mapping[tuple[str, int], Row]) -> list[list[Row]]:
        """The rows of the first seeds that are there on every table, by seed and table."""
        by_seed = [[(table, seed) for table in self.plan.tables] for seed in range(self.plan.seeds)]
        there = takewhile(lambda places: all(place in rows for place in places), by_seed)
        return [[rows[place] for place in places] for places in there]

    @cached_property
    def problems(self) -> list[Problem]:
        return [Problem.of(table, self.plan.subsets) for table in self.plan.tables]

    def labels(self, budget: float) -> list[str]:
        """The agents that ran at a budget, the best first."""
        there = [label for label, at in self._rows if at == budget]
        return sorted(there, key=lambda label: self.at(label, budget).regret.value)

    def regrets(self, label: str, budget: float) -> Values:
        """Of every run; shape (tables, seeds)."""
        seeds = self._rows[label, budget]
        return np.array([[row.regret for row in of] for of in seeds]).T

    def all_labels(self) -> list[str]:
        """All agents that ran, the best at the largest budget first."""
        labels = [label for budget in self.plan.budgets[::-1] for label in self.labels(budget)]
        return list(dict.fromkeys(labels))

    @property
    def yardsticks(self) -> list[str]:
        """Those of `YARDSTICKS` that the plan has."""
        return [label for label in YARDSTICKS if label in self.plan.lines]

    @cached_property
    def uniform_regret(self) -> float:
        """The regret of the best uniform merge, the mean over tables."""
        return float(np.mean([of.optimum - of.uniform for of in self.problems]))

    def has(self, label: str, budget: float) -> bool:
        return (label, budget) in self._rows

    def at(self, label: str, budget: float) -> Standing:
        """How an agent did at a budget."""
        if (label, budget) not in self._standings:
            self._standings[label, budget] = self._standing(label, budget)
        return self._standings[label, budget]

    def _standing(self, label: str, budget: float) -> Standing:
        rows = [row for of in self._rows[label, budget] for row in of]
        regrets = self.regrets(label, budget)
        tests = [row.test for row in rows if row.test is not None]
        return Standing(
            label=label,
            budget=budget,
            runs=len(rows),
            regret=estimate(interquartile_mean, regrets),
            optimum=float((regrets <= 0).mean()),
            test=float(np.mean(tests)) if len(tests) == len(rows) else None,
            seconds=median(row.seconds for row in rows),
        )

    def improvement(self, label: str, other: str, budget: float) -> Estimate:
        """How likely a run of one agent has less regret than one of the other."""
        return improvement(self.regrets(label, budget), self.regrets(other, budget))

    def cost_to_near(self, label: str) -> float | None:
        """The smallest budget at which the interquartile mean is within `WITHIN`."""
        budgets = [budget for budget in self.plan.budgets if self.has(label, budget)]
        near = [budget for budget in budgets if self.at(label, budget).regret.value <= WITHIN]
        return min(near, default=None)
