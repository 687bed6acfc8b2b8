"""A small plan and its runs."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.benchmarking.plan import Plan
from experiments.benchmarking.playing import play
from experiments.benchmarking.results import Row
from tests.experiments.benchmarking.tables import write_table


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A plan as it is written."""
    folder = tmp_path_factory.mktemp("tables")
    tables = [write_table(folder / f"{seed}.safetensors.xz", seed) for seed in (0, 1)]
    return {
        "tables": list(map(str, tables)),
        "budgets": [3, 12],
        "seeds": 3,
        "subsets": 5,
        "agents": {
            "chance": {"name": "random", "times_budget": {"episodes": 4, "top": 0.25}},
            "evolution": {},
            "slow": {"name": "evolution", "z": 2.0, "up_to": 3},
        },
    }


@pytest.fixture(scope="session")
def plan(given: dict[str, Any]) -> Plan:
    return Plan.read(given)


@pytest.fixture(scope="session")
def rows(plan: Plan) -> list[Row]:
    return [Row.of(job, play(job)) for job in plan.jobs()]
