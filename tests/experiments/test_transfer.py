"""Leaving one table out: what is learnt on the others, and what it buys."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from agents.priors import learn_prior, load_prior
from experiments.benchmarking.plan import Plan, open_table
from experiments.transfer import learn_priors
from tests.experiments.programs import call

TABLES = ["fashion-halves-0", "fashion-halves-2"]


def test_a_tables_prior_is_learnt_on_the_others_alone(tmp_path: Path) -> None:
    agents = {"edit_actor_critic": {}}
    plan = Plan.read(
        {"tables": TABLES, "budgets": [8], "seeds": 1, "subsets": 10, "agents": agents}
    )
    priors = learn_priors(plan, tmp_path)
    theirs = learn_prior([open_table("fashion-halves-2", 10)])
    assert load_prior(priors["fashion-halves-0"]).layers.tolist() == theirs.layers.tolist()


def test_each_table_is_searched_with_and_without_what_the_others_taught(tmp_path: Path) -> None:
    asked = [f"tables=[{','.join(TABLES)}]", "budgets=[8]", "seeds=2", f"directory={tmp_path}"]
    ended = call("transfer", *asked)
    assert ended.returncode == 0, ended.stderr
    assert "fashion-halves-2" in ended.stdout
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["table"], row["seed"], row["prior"]) for row in rows} == {
        (table, seed, prior) for table in TABLES for seed in "01" for prior in ("False", "True")
    }
    assert all(0 <= float(row["regret"]) < 40 for row in rows)


def test_one_table_cannot_be_left_out(tmp_path: Path) -> None:
    ended = call("transfer", "tables=[fashion-halves-0]", f"directory={tmp_path}")
    assert ended.returncode == 1
    assert "at least two tables" in ended.stderr


@pytest.mark.parametrize("asked", ["budgets=[0]", "seeds=0", "tables=[fashion-halves-0,nowhere]"])
def test_what_cannot_be_run_is_one_line(asked: str, tmp_path: Path) -> None:
    ended = call("transfer", asked, f"directory={tmp_path / 'made'}")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
