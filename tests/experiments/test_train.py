"""The training program on the tiny suite."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from experiments import train

CONF = Path(__file__).parents[2] / "conf"
QUICK = ["episodes=24", "top=3", "agent.epochs=2", "subsets=5", "baselines=[average]"]


def configuration(suite: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("train", [f"suite={suite}", *QUICK, *overrides])


def run(suite: Path, directory: Path, *overrides: str) -> Path:
    directory.mkdir(parents=True)
    prepared = train.prepare(configuration(suite, *overrides), directory)
    train.write(prepared, train.execute(prepared))
    return directory


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=CONF.parent, check=False)


@pytest.fixture(scope="module")
def finished(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(suite_file, tmp_path_factory.mktemp("runs") / "finished")


def test_a_run_leaves_results_recipe_pictures_and_checkpoints(finished: Path) -> None:
    for name in ("learning_curve.png", "merging_map.png"):
        with Image.open(finished / name) as picture:
            assert picture.width > 200
    rows = json.loads((finished / "results.json").read_text())["rows"]
    assert [row["kind"] for row in rows].count("expert") == 2
    assert rows[-1]["kind"] == "found"
    assert (finished / "checkpoint" / "low" / "config.json").is_file()
    assert (finished / "recipe.json").read_text() == (
        finished / "checkpoint" / "recipe.json"
    ).read_text()


def test_the_found_recipe_is_the_best_of_those_scored_again(finished: Path) -> None:
    scored = [json.loads(line) for line in (finished / "scores.jsonl").read_text().splitlines()]
    again = {
        json.dumps(entry["recipe"]): sum(entry["scores"].values())
        for entry in scored
        if entry["split"] == "search" and entry["subset"] is None
    }
    found = json.dumps(json.loads((finished / "recipe.json").read_text()))
    uniform = [key for key in again if len({str(layer) for layer in _sources(key)}) == 1]
    assert again[found] == max(
        value for key, value in again.items() if key == found or key not in uniform
    )


def _sources(recipe: str) -> list[dict]:
    layers = [layer for part in json.loads(recipe)["segments"].values() for layer in part]
    return [{key: value for key, value in layer.items() if key != "layer"} for layer in layers]


def test_merges_are_let_go_of_before_the_export(suite_file: Path, tmp_path: Path) -> None:
    prepared = train.prepare(configuration(suite_file), tmp_path)
    bank = prepared.core.bank
    merged = [weakref.ref(bank.parameters(source)) for source in bank.sources[2:]]
    train.execute(prepared)
    assert [reference() for reference in merged] == [None] * len(merged)


def test_the_same_seed_gives_the_same_results(
    finished: Path, suite_file: Path, tmp_path: Path
) -> None:
    again = run(suite_file, tmp_path / "again")
    assert (again / "results.json").read_text() == (finished / "results.json").read_text()


def test_another_seed_searches_otherwise(finished: Path, suite_file: Path, tmp_path: Path) -> None:
    other = run(suite_file, tmp_path / "other", "seed=1")
    recipes = [
        [
            json.loads(line)["recipe"]
            for line in (folder / "episodes.jsonl").read_text().splitlines()
        ]
        for folder in (finished, other)
    ]
    assert recipes[0] != recipes[1]


def test_a_sweep_gives_one_folder_each_and_the_summary_reads_them(
    suite_file: Path, tmp_path: Path
) -> None:
    quick = [*QUICK, f"suite={suite_file}", f"run_dir={tmp_path}", "agent=random", "~agent.epochs"]
    quick.remove("agent.epochs=2")
    quick.remove("~agent.epochs")
    swept = program("-m", "seed=0,1", *quick)
    assert swept.returncode == 0, swept.stderr
    assert "found by random" in swept.stdout
    seeds = [json.loads((tmp_path / job / "results.json").read_text())["seed"] for job in "01"]
    assert seeds == [0, 1]
    command = [sys.executable, "-m", "experiments.summarise", str(tmp_path)]
    summary = subprocess.run(command, capture_output=True, text=True, cwd=CONF.parent, check=True)
    assert "tiny" in summary.stdout


def test_a_finished_run_is_not_overwritten(suite_file: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0")
    with pytest.raises(ValueError, match=r"already holds a run.*resume="):
        train.settings(configuration(suite_file), tmp_path)


def test_a_resumed_run_takes_its_own_settings(suite_file: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 7")
    resumed = train.settings(configuration(suite_file, f"resume={tmp_path}"), tmp_path)
    assert (resumed.seed, resumed.resume) == (7, str(tmp_path))


def test_resuming_where_no_run_is_names_the_folder(suite_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run"):
        train.settings(configuration(suite_file, f"resume={tmp_path}"), tmp_path)


def test_a_file_that_cannot_be_written_is_one_line_with_the_way_on(
    suite_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "results.json").mkdir()
    settings = ["agent=random", "episodes=2", "top=1", "subsets=5", "baselines=[average]"]
    done = program(f"suite={suite_file}", f"run_dir={tmp_path}", *settings)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert f"results.json'; resume={tmp_path} goes on with this run" in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("suite=fashion-halfs-0", "fashion-halves-0"),
        ("operators.bank=[tees]", "ties"),
        ("agent.clip_range=-1", "clip_range"),
        ("subsets=1000", "1000"),
        ("reward.dar_scale=2", "2"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_before_the_search(
    suite_file: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train.prepare(configuration(suite_file, override), tmp_path)
    assert not list(tmp_path.iterdir())
