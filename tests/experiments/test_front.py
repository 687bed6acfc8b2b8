"""The Pareto set of a finished run, and what an objective is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from merge_gym import LayerBank, Recipe, ReferenceEvaluator, load_suite
from merge_gym.studies.objectives import check_objectives, losses_of, undominated, values_of
from tests.experiments.programs import call, run

ROWS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12)


@given(ROWS)
def test_no_row_beats_one_that_is_kept_and_one_that_is_kept_beats_each_other_row(rows) -> None:
    def beats(one, other) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    kept = [rows[at] for at in undominated(rows)]
    assert len(set(kept)) == len(kept)
    assert not any(beats(one, other) for one in rows for other in kept)
    assert all(row in kept or any(beats(one, row) for one in kept) for row in rows)


def test_objectives_of_a_merge_by_hand(suite) -> None:
    recipe = LayerBank(suite, ["average"]).uniform("average")
    depth = sum(len(layers) for _, layers in recipe.segments)
    names = ["worst", "depth", "b", "mean"]
    values = values_of({"a": 0.5, "b": 0.75}, recipe, names)
    assert values == [0.5, depth, 0.75, 0.625]
    assert losses_of(values, names) == [-0.5, depth, -0.75, -0.625]


def test_objectives_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown objective 'wrost'.*worst"):
        check_objectives(["mean", "wrost"], ["a"])
    for names in (["mean"], ["mean", "mean"]):
        with pytest.raises(ValueError, match="at least two different objectives"):
            check_objectives(names, ["a"])


@pytest.fixture(scope="module")
def searched(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "searched"
    return run("search", suite_file, folder, "agent=random_search", "budget=20")


def test_the_points_of_a_run_are_its_trials_and_score_as_the_reference_says(
    searched: Path, suite_file: Path
) -> None:
    ended = call("front", f"run={searched}", "objectives=[low,high]", "export=[0]")
    assert ended.returncode == 0, ended.stderr
    made = searched / "front"
    with (made / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = (searched / "trials.jsonl").read_text().splitlines()
    whole = [trial for trial in map(json.loads, lines) if trial["subsets"] is None]
    losses = [[-trial["scores"][task] for task in ("low", "high")] for trial in whole]
    assert [[-float(row["search low"]), -float(row["search high"])] for row in rows] == sorted(
        losses[at] for at in undominated(losses)
    )
    recipe = Recipe.from_json((made / "0.json").read_text())
    reference = ReferenceEvaluator(LayerBank(load_suite(suite_file)))
    scores = reference.score(recipe, "test")
    assert [float(rows[0][f"test {task}"]) for task in ("low", "high")] == [
        scores["low"],
        scores["high"],
    ]
    assert (made / "checkpoint-0" / "low" / "model.safetensors").is_file()
    with Image.open(made / "front.png") as picture:
        assert picture.width > 200


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("objectives=[mean,storage]", "unknown objective 'storage'"),
        ("export=[99]", "so none 99"),
        ("run=nowhere", "give run="),
    ],
)
def test_what_cannot_be_shown_is_one_line(searched: Path, tmp_path: Path, asked, said) -> None:
    ended = call("front", f"run={searched}", f"output={tmp_path / 'made'}", asked)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert said in ended.stderr
    assert not (tmp_path / "made").exists()
