"""The search program on the tiny suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from experiments import search, summarise
from merge_gym.recipe import Calibration, Recipe
from tests.experiments.programs import (
    QUICK,
    assert_same_run,
    call,
    configuration,
    found,
    results,
    run,
)


@pytest.fixture(scope="module")
def finished(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run("search", suite_file, tmp_path_factory.mktemp("runs") / "finished")


def test_the_program_prints_a_table_and_leaves_its_files(suite_file: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    done = call("search", f"suite={suite_file}", f"run_dir={directory}", *QUICK["search"])
    assert done.returncode == 0, done.stderr
    for words in ("tiny, gp, seed 0", "expert low", "found by gp", "To take away: "):
        assert words in done.stdout
    assert str(directory) in done.stdout
    assert "evaluations" not in done.stderr  # no bar where there is no terminal
    names = {file.name for file in directory.iterdir()}
    assert names >= {
        "config.yaml",
        "trials.jsonl",
        "results.json",
        "recipe.json",
        "merging_map.png",
        "progress.png",
        "accuracy.png",
        "checkpoint",
    }
    for name in ("progress.png", "merging_map.png", "accuracy.png"):
        with Image.open(directory / name) as picture:
            assert picture.width > 200


def test_what_was_found_is_at_least_the_best_uniform_merge(finished: Path) -> None:
    rows = results(finished)["rows"]
    means = {
        kind: [sum(row["search"].values()) for row in rows if row["kind"] == kind]
        for kind in ("expert", "uniform", "found")
    }
    [best] = means["found"]
    assert best >= max(means["expert"] + means["uniform"])


def test_calibrated_heads_stand_beside_their_controls_and_are_not_charged(finished: Path) -> None:
    rows = {row["name"]: row for row in results(finished)["rows"] if row["kind"] == "calibrated"}
    assert {"pretrained", "expert low", "expert high", "found"} < rows.keys()
    assert len(rows) == 5  # and the best uniform merge
    assert rows["found"]["search"] != found(finished)["search"]
    assert results(finished)["trials"] == len((finished / "trials.jsonl").read_text().splitlines())


def test_the_linear_probe_stands_beside_them(finished: Path) -> None:
    [probed] = [row for row in results(finished)["rows"] if row["kind"] == "probe"]
    assert 1 / 3 < sum(probed["test"].values()) / 2 < 1


def test_heads_that_are_calibrated_in_every_score_are_in_the_recipe(
    suite_file: Path, tmp_path: Path
) -> None:
    run("search", suite_file, tmp_path, "+heads.examples=20", "budget=4", "baselines=[]")
    recipe = Recipe.from_json((tmp_path / "recipe.json").read_text())
    assert recipe.heads == Calibration(examples=20)
    assert "calibrated" not in {row["kind"] for row in results(tmp_path)["rows"]}


@pytest.fixture(scope="module")
def walked(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "walked"
    settings = ["space=walk", "agent=evolution", "budget=7.3", "baselines=[]"]
    return run("search", suite_file, directory, *settings)


@pytest.mark.parametrize(("which", "budget"), [("finished", 8), ("walked", 7.3)])
def test_no_more_than_the_budget_is_spent_and_the_table_is_not_charged(
    request: pytest.FixtureRequest, which: str, budget: float
) -> None:
    directory = request.getfixturevalue(which)
    said = results(directory)
    assert 120 * (budget - 1) < said["evaluation_cost"] <= 120 * budget
    trials = [json.loads(line) for line in (directory / "trials.jsonl").read_text().splitlines()]
    assert said["evaluation_cost"] == sum(trial["charged"] for trial in trials)


def test_the_same_seed_gives_the_same_run_and_another_another(
    finished: Path, suite_file: Path, tmp_path: Path
) -> None:
    assert_same_run(finished, run("search", suite_file, tmp_path / "again"))
    other = run("search", suite_file, tmp_path / "other", "seed=1")
    assert (other / "trials.jsonl").read_text() != (finished / "trials.jsonl").read_text()


def test_an_agent_that_plays_episodes_searches_walks_too(suite_file: Path, tmp_path: Path) -> None:
    settings = ["agent=maskable_ppo", "space=walk", "+agent.top=2", "+agent.episodes=12"]
    directory = run("search", suite_file, tmp_path, *settings, "baselines=[]")
    assert found(directory)["name"] == "maskable_ppo"
    assert results(directory)["evaluation_cost"] <= 8 * 120


def summarised(folder: Path, monkeypatch, capsys) -> str:
    """What the summary of a folder prints."""
    monkeypatch.setattr("sys.argv", ["summarise", str(folder)])
    capsys.readouterr()
    summarise.main()
    return capsys.readouterr().out


def test_the_summary_tells_spaces_apart(
    finished: Path, walked: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    folder = tmp_path / "runs"
    (folder / "again").mkdir(parents=True)
    data = results(walked)
    del data["space"]  # as runs were written before there were spaces
    (folder / "again" / "results.json").write_text(json.dumps(data))
    (folder / "again" / "config.yaml").write_text((walked / "config.yaml").read_text())
    for directory in (finished, walked):
        (folder / directory.name).mkdir()
        for name in ("results.json", "config.yaml"):
            (folder / directory.name / name).write_text((directory / name).read_text())
    printed = summarised(folder, monkeypatch, capsys)
    runs = {
        cells[2]: int(cells[3])
        for line in printed.splitlines()
        if (cells := [cell.strip() for cell in line.split("│")[1:-1]]) and cells[0] == "tiny"
    }
    assert runs == {"Walk": 2, "Layerwise": 1}


def test_a_summary_of_nothing_is_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit, match=f"^error: no results.json below {tmp_path}.*$"):
        summarised(tmp_path, monkeypatch, capsys)


BAD = {
    "space.name=layerwize": "unknown space 'layerwize'. Did you mean 'layerwise'",
    "space.groups=2": "2 groups do not divide the 3 layers of 'layers': choose 1, 3",
    "+space.group=3": "unknown setting of space 'layerwise' 'group'. Did you mean 'groups'",
    "space.largest=-1": "largest is a finite number of at least 0, got -1",
    "agent.name=evolutoin": "unknown agent 'evolutoin'. Did you mean 'evolution'",
    "+agent.zz=1": "unknown setting of agent 'gp' 'zz'. Did you mean 'z'",
    "agent.z=-1": "z is a finite number of at least 0, got -1",
    "agent=random": "it searches space=walk, not Layerwise",
    "budget=0": "budget is a number of full evaluations above 0, got 0",
    "budget=-2": "above 0, got -2",
    "budget=many": "above 0, got 'many'",
    "budget=true": "above 0, got True",
    "budget=null": "above 0, got None",
    "budget=0.5": "at least one full evaluation, 120 examples, got 60",
    "suite=fashion-halfs-0": "unknown suite 'fashion-halfs-0'. Did you mean 'fashion-halves-0'",
    "suite=no/such.yaml": "no/such.yaml",
    "operators.bank=[tees]": "tees",
    "subsets=0": "subsets",
    "device=gpu": "gpu",
    "heads=5": "heads is null, or a mapping of examples, ridge, seed; got 5",
    "+heads.count=9": "heads is null, or a mapping of examples, ridge, seed; got {'count': 9}",
    "+heads.examples=1": "at least 2 examples, got 1",
    "seed=1.5": "a seed is a whole number of at least 0, got 1.5",
}


@pytest.mark.parametrize(("override", "message"), BAD.items())
def test_what_does_not_fit_is_refused_before_anything_is_written(
    suite_file: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises((ValueError, OSError)) as refused:
        search.prepare(configuration("search", suite_file, override), tmp_path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_refusal_is_one_line_and_leaves_no_folder(suite_file: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    done = call("search", f"suite={suite_file}", f"run_dir={directory}", "space.groups=2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not directory.exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [("space=layers", "layerwise"), ("agent.zz=1", "zz")],
)
def test_what_the_configuration_does_not_know_is_no_traceback(
    tmp_path: Path, override: str, words: str
) -> None:
    done = call("search", f"run_dir={tmp_path / 'run'}", override)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
