"""What a benchmark runs: agents × tables × budgets × seeds, each run known by what it asks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import agents
from agents import Agent
from merge_gym.evaluation.table import Table, load_table
from merge_gym.spaces.walk import Walk
from merge_gym.studies.study import Study

PROTOCOL = "merge_gym.benchmark/1"
"""Raised whenever a run of the same plan would be another run."""

OF_A_LINE = ("name", "times_budget", "up_to")


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        label: how the page calls the agent with these settings.
        agent: its name in the registry.
        settings: those that differ from its defaults, as JSON text.
        table: name or file.
        budget: in full evaluations.
        seed: of the study.
        subsets: S.
    """

    label: str
    agent: str
    settings: str
    table: str
    budget: float
    seed: int
    subsets: int

    def make_agent(self) -> Agent:
        return agents.make(self.agent, **json.loads(self.settings))

    def make_study(self) -> Study:
        table = open_table(self.table, self.subsets)
        examples = round(self.budget * table.whole_cost())
        return Study(Walk(table.candidates), table, examples, self.seed)

    def asked(self) -> dict[str, Any]:
        """All that the run depends on but code, as JSON values: defaults are written out."""
        return {
            "protocol": PROTOCOL,
            "agent": self.make_agent().describe(),
            "table": open_table(self.table, self.subsets).digest,
            "budget": float(self.budget),
            "seed": self.seed,
            "subsets": self.subsets,
        }

    @property
    def key(self) -> str:
        """What the store knows the run by."""
        return sha256(json.dumps(self.asked(), sort_keys=True).encode()).hexdigest()[:24]

    def __str__(self) -> str:
        return f"{self.label} on {self.table}, budget {self.budget:g}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """The runs that are compared.

    Attributes:
        tables: names or files.
        budgets: in full evaluations, everything included, ascending.
        seeds: 0 to this, exclusive.
        subsets: S, in how many the search split is dealt.
        lines: for each agent by label its `name` and settings; under `times_budget` settings that
            grow with the budget, given for one evaluation and rounded, at least 1; and `up_to`,
            the largest budget that it runs at, where it is too slow for all.
    """

    tables: Sequence[str]
    budgets: Sequence[float]
    seeds: int
    subsets: int
    lines: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Plan:
        """The plan of a configuration, checked with every agent, table and budget that it names.

        Raises ValueError or FileNotFoundError for what cannot be run.
        """
        fields = ("tables", "budgets", "seeds", "subsets", "agents")
        if set(given) != set(fields):
            raise ValueError(f"a plan gives {', '.join(fields)}; this one {', '.join(given)}")
        budgets = given["budgets"]
        if not budgets or not all(map(_is_budget, budgets)) or list(budgets) != sorted(budgets):
            raise ValueError(f"budgets are full evaluations, ascending, got {budgets!r}")
        for name in ("seeds", "subsets"):
            if isinstance(given[name], bool) or not isinstance(given[name], int) or given[name] < 1:
                raise ValueError(f"{name} is how many there are, at least 1, got {given[name]!r}")
        if not given["tables"] or not given["agents"]:
            raise ValueError("a plan names at least one table and one agent")
        for label, line in given["agents"].items():
            _check_line(label, line)
        plan = cls(given["tables"], budgets, given["seeds"], given["subsets"], given["agents"])
        for job in plan.jobs():
            if job.seed == 0:
                _check(job)
        return plan

    def jobs(self) -> Iterator[Job]:
        """Every run, the first seeds of all before the next."""
        for seed in range(self.seeds):
            for label, line in self.lines.items():
                for budget in self.budgets_of(label):
                    settings = _settings(line, budget)
                    for table in self.tables:
                        name = line.get("name", label)
                        yield Job(label, name, settings, table, budget, seed, self.subsets)

    def budgets_of(self, label: str) -> list[float]:
        """The budgets that an agent runs at."""
        most = self.lines[label].get("up_to", math.inf)
        return [budget for budget in self.budgets if budget <= most]


@lru_cache(maxsize=16)
def open_table(table: str, subsets: int) -> Table:
    """A table, read once in a process."""
    return load_table(table, subsets)


def _settings(line: Mapping[str, Any], budget: float) -> str:
    own = {name: value for name, value in line.items() if name not in OF_A_LINE}
    scaled = line.get("times_budget", {})
    return json.dumps(own | {name: max(1, round(by * budget)) for name, by in scaled.items()})


def _check_line(label: str, line: Any) -> None:
    if not isinstance(line, Mapping):
        raise ValueError(
            f"{label}: an agent's line is a mapping, {{}} for its defaults, not {line!r}"
        )
    scaled, most = line.get("times_budget", {}), line.get("up_to", 1)
    if not isinstance(scaled, Mapping) or not all(map(_is_budget, [*scaled.values(), most])):
        raise ValueError(
            f"{label}: times_budget is a mapping of settings to numbers above 0, and up_to a "
            f"number above 0, got {scaled!r} and {most!r}"
        )


def _check(job: Job) -> None:
    study = job.make_study()
    try:
        job.make_agent().check(study)
    except ValueError as error:
        raise ValueError(f"{job}: {error}") from None


def _is_budget(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
