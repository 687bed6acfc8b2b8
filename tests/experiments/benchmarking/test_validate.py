"""Results and recipes that are handed in."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import merge_gym
from experiments import validate
from experiments.benchmarking import results
from experiments.benchmarking.plan import Plan, open_table
from experiments.benchmarking.playing import play
from merge_gym.evaluation.scorer import Request
from tests.experiments.benchmarking.tables import write_table


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[results.Row]:
    table = write_table(tmp_path_factory.mktemp("tables") / "0.safetensors.xz")
    agents = {"evolution": {}, "random": {"top": 1, "episodes": 9}}
    given = {"tables": [str(table)], "budgets": [4], "seeds": 2, "subsets": 5, "agents": agents}
    return [results.Row.of(job, play(job)) for job in Plan.read(given).jobs()]


def test_results_as_they_were_written_are_valid(rows: list[results.Row]) -> None:
    assert validate.check_rows(rows) == []
    assert validate.replay(rows, 3) == (3, [])


EDITS: dict[str, tuple[dict[str, Any], str]] = {
    "score": ({"search": 99.0}, r"line 2: search is 99\.0, not \d"),
    "test score": ({"test": 99.0}, r"line 2: test is 99\.0"),
    "regret": ({"regret": 0.0123}, r"line 2: regret is 0\.0123"),
    "recipe": ({"found": 999}, "found is a place from 0 to 255"),
    "cost": ({"spent": 10**6}, "spent 1000000 examples of a budget of 4 full evaluations"),
    "curve": ({"curve": "[]"}, "curve does not end at what it found"),
    "protocol": ({"protocol": "merge_gym.benchmark/0"}, "its protocol is"),
    "table": ({"digest": "0" * 16}, "has the digest 0000000000000000"),
}


@pytest.mark.parametrize(("edit", "words"), EDITS.values(), ids=EDITS)
def test_an_edited_row_is_found(rows: list[results.Row], edit: dict[str, Any], words: str) -> None:
    (*faults,) = validate.check_rows([replace(rows[0], **edit), *rows[1:]])
    assert faults
    assert any(re.search(words, fault) for fault in faults)


def test_a_row_that_is_consistent_but_was_not_found_so_is_found(rows: list[results.Row]) -> None:
    table = open_table(rows[0].table, 5)
    best = table.index(table.optimum()[0])
    better = replace(rows[0].result, found=best, curve=((rows[0].spent, best),))
    edited = results.Row.of(rows[0].job, better)
    assert validate.check_rows([edited]) == []
    count, faults = validate.replay([edited], 1)
    assert count == 1
    assert any(f"found is {best}, not {rows[0].found}" in fault for fault in faults)
    assert validate.replay([replace(edited, agent="theirs")], 1) == (0, [])


def test_the_same_run_twice_is_found(rows: list[results.Row]) -> None:
    assert validate.check_rows([*rows, rows[1]]) == ["line 6 is the same run as line 3"]


def test_the_program_ends_with_what_is_wrong(
    rows: list[results.Row],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "results.csv"
    monkeypatch.setattr(sys, "argv", ["validate", str(file), "--replay", "2"])
    results.write_rows(file, rows)
    validate.main()
    assert capsys.readouterr().out.startswith("valid: 4 runs are what their tables say, 2 were")
    results.write_rows(file, [replace(rows[0], search=99.0), *rows[1:]])
    with pytest.raises(SystemExit, match=r"error: \d faults in the file\nline 2: search is 99"):
        validate.main()


def test_a_recipe_of_a_shipped_table_is_scored_on_it() -> None:
    table = merge_gym.load_table("fashion-halves-0")
    best, score = table.optimum()
    said = validate.check_recipe(best)
    assert said.startswith(f"{100 * score:.2f} on search")
    assert said.endswith(
        "rank 1 of the 15,625 recipes of the table fashion-halves-0, regret 0.00 points"
    )


def test_a_recipe_outside_the_tables_is_scored_with_models(
    suite_file: Path, bank: merge_gym.LayerBank, evaluator: merge_gym.ReferenceEvaluator
) -> None:
    recipe = bank.uniform("average")
    search, test = evaluator.evaluate([Request(recipe), Request(recipe, "test")])
    expected = f"{100 * search.mean:.2f} on search, {100 * test.mean:.2f} on test"
    assert validate.check_recipe(recipe, str(suite_file)) == expected
    with pytest.raises(ValueError, match="name its own with --suite"):
        validate.check_recipe(replace(recipe, suite="0" * 16), str(suite_file))
