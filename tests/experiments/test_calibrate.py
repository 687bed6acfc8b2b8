"""The program that calibrates the heads of what a run found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from experiments.calibrate import main
from merge_gym import LayerBank, ReferenceEvaluator, load_suite
from merge_gym.recipe import Calibration, Recipe
from tests.experiments.programs import ROOT, results, run


def calibrate(*overrides: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        main.__wrapped__(compose("calibrate", list(overrides)))


@pytest.fixture(scope="module")
def searched(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run("search", suite_file, tmp_path_factory.mktemp("runs") / "searched", "budget=5")


def test_the_found_recipe_is_calibrated_scored_and_exported(searched: Path, suite_file, capsys):
    calibrate(f"run={searched}", "examples=20")
    made = searched / "calibrated-20"
    recipe = Recipe.from_json((made / "recipe.json").read_text())
    assert recipe.heads == Calibration(20)
    own = json.loads((searched / "recipe.json").read_text())
    assert recipe.to_dict() | {"heads": own["heads"]} == own
    scorer = ReferenceEvaluator(LayerBank(load_suite(suite_file)))
    rows = {row["name"]: row for row in results(made)["rows"] if row["kind"] == "calibrated"}
    assert rows["found"]["test"] == scorer.score(recipe, "test")
    assert {"pretrained", "expert low", "expert high"} < rows.keys()
    before = [row for row in results(searched)["rows"] if row["kind"] != "calibrated"]
    assert [row for row in results(made)["rows"] if row["kind"] != "calibrated"] == before
    assert (made / "checkpoint" / "low" / "model.safetensors").is_file()
    assert (made / "accuracy.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "20 unlabelled examples a task" in printed
    assert "found, with calibrated heads" in printed


def test_what_cannot_be_calibrated_is_one_line(searched: Path, tmp_path: Path):
    def refused(message: str, *overrides: str) -> None:
        with pytest.raises(SystemExit, match=f"^error: .*{message}"):
            calibrate(*overrides)

    refused("Give run=")
    refused("holds no run that has finished", f"run={tmp_path}")
    refused("calibration asks for 1000: lower examples", f"run={searched}", "examples=1000")
    refused("is there already", f"run={searched}", f"output={tmp_path}", "examples=9")
    again = tmp_path / "again"
    again.mkdir()
    for name in ("config.yaml", "results.json"):
        (again / name).write_bytes((searched / name).read_bytes())
    data = json.loads((searched / "recipe.json").read_text())
    data["heads"] = {"calibrated": {"examples": 5, "ridge": None, "seed": 0}}
    (again / "recipe.json").write_text(json.dumps(data))
    refused("has calibrated heads already", f"run={again}", "examples=9")
    assert not list(searched.glob("calibrated-1000*"))
