"""The training program on the tiny suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from experiments import running, train
from tests.experiments.programs import (
    QUICK,
    assert_same_run,
    call,
    configuration,
    found,
    results,
    run,
)

AGENTS = ("ppo", "maskable_ppo", "a2c", "dqn", "random")


@pytest.fixture(scope="module")
def finished(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "finished"
    return run("train", suite_file, directory, "agent.epochs=2")


def test_a_run_leaves_results_recipe_pictures_and_checkpoints(finished: Path) -> None:
    for name in ("learning_curve.png", "merging_map.png"):
        with Image.open(finished / name) as picture:
            assert picture.width > 200
    kinds = [row["kind"] for row in results(finished)["rows"]]
    assert (kinds.count("expert"), kinds.count("pretrained"), kinds.count("found")) == (2, 1, 1)
    assert (finished / "checkpoint" / "low" / "config.json").is_file()
    assert (finished / "recipe.json").read_text() == (
        finished / "checkpoint" / "recipe.json"
    ).read_text()
    assert list((finished / "tensorboard").iterdir())


def _trials(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "trials.jsonl").read_text().splitlines()]


def test_the_found_recipe_is_the_best_of_those_scored_again(finished: Path) -> None:
    again = [trial for trial in _trials(finished) if trial["subsets"] is None]
    assert 3 <= len(again) <= 4  # the top three and the greedy one
    best = max(again, key=lambda trial: sum(trial["scores"].values()))
    assert json.loads((finished / "recipe.json").read_text()) == best["recipe"]
    assert found(finished)["search"] == best["scores"]


def test_the_results_say_what_was_tried_and_paid(finished: Path) -> None:
    said, trials = results(finished), _trials(finished)
    assert (said["suite"], said["agent"], said["space"], said["seed"]) == ("tiny", "ppo", "Walk", 0)
    assert said["trials"] == len(trials)
    assert said["evaluation_cost"] == trials[-1]["spent"] == sum(t["charged"] for t in trials)
    assert said["full_cost"] == 120


def test_the_same_seed_gives_the_same_results(
    finished: Path, suite_file: Path, tmp_path: Path
) -> None:
    assert_same_run(finished, run("train", suite_file, tmp_path / "again", "agent.epochs=2"))


def test_another_seed_searches_otherwise(finished: Path, suite_file: Path, tmp_path: Path) -> None:
    other = run("train", suite_file, tmp_path / "other", "agent.epochs=2", "seed=1")
    assert [t.get("recipe") for t in _trials(finished)] != [t.get("recipe") for t in _trials(other)]


@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_that_plays_episodes_finds_something(
    suite_file: Path, tmp_path: Path, agent: str
) -> None:
    directory = run(
        "train", suite_file, tmp_path, f"agent={agent}", "episodes=8", "top=1", "baselines=[]"
    )
    assert results(directory)["agent"] == found(directory)["name"] == agent
    assert len((directory / "episodes.jsonl").read_text().splitlines()) == 8


def test_an_agent_that_plays_none_is_refused_with_the_program_that_runs_it(
    suite_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"no episodes: .*experiments.search agent=evolution"):
        train.prepare(configuration("train", suite_file, "agent=evolution"), tmp_path)


def test_a_sweep_gives_one_folder_each_and_the_summary_reads_them(
    suite_file: Path, tmp_path: Path
) -> None:
    arguments = [*QUICK["train"], f"suite={suite_file}", f"run_dir={tmp_path}", "agent=random"]
    swept = call("train", "-m", "seed=0,1", *arguments)
    assert swept.returncode == 0, swept.stderr
    assert "found by random" in swept.stdout
    assert [results(tmp_path / job)["seed"] for job in "01"] == [0, 1]
    summary = call("summarise", str(tmp_path))
    assert summary.returncode == 0, summary.stderr
    assert "tiny" in summary.stdout


def test_a_sweep_goes_on_after_a_job_that_fails_and_is_resumed_by_its_command(
    suite_file: Path, tmp_path: Path
) -> None:
    arguments = ["-m", "episodes=0,6", "seed=0", "agent=random", "top=1", "subsets=5"]
    arguments += ["baselines=[]", f"suite={suite_file}"]
    swept = call("train", *arguments, f"run_dir={tmp_path}")
    assert swept.returncode == 1
    assert "episodes is a whole number of at least 1, got 0" in swept.stderr
    assert "Traceback" not in swept.stderr
    assert results(tmp_path / "1")["agent"] == "random"
    again = call("train", *arguments, f"resume={tmp_path}")
    assert again.returncode == 1
    assert f"{tmp_path / '1'} has finished" in again.stdout
    (tmp_path / "1" / "results.json").unlink()
    other = [*arguments[:2], "seed=1", *arguments[3:], f"resume={tmp_path}"]
    assert "was begun with seed=0: a sweep is resumed by" in call("train", *other).stderr


def test_a_finished_run_is_not_overwritten(suite_file: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0")
    with pytest.raises(ValueError, match=r"already holds a run.*resume="):
        running.settings(configuration("train", suite_file), tmp_path)


def test_a_resumed_run_takes_its_own_settings(finished: Path, suite_file: Path) -> None:
    asked = configuration("train", suite_file, f"resume={finished}", "seed=7", "agent=random")
    resumed = running.settings(asked, finished)
    assert (resumed.seed, resumed.agent.name, resumed.resume) == (0, "ppo", str(finished))


def test_resuming_where_no_run_is_names_the_folder(suite_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no run \(no config.yaml\)"):
        running.settings(configuration("train", suite_file, f"resume={tmp_path}"), tmp_path)


def test_the_run_of_another_program_is_not_resumed(finished: Path, suite_file: Path) -> None:
    asked = configuration("search", suite_file, f"resume={finished}")
    with pytest.raises(ValueError, match=r"run of another program or version.*budget"):
        running.settings(asked, finished)


def test_a_file_that_cannot_be_written_is_one_line_with_the_way_on(
    suite_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "results.json").mkdir()
    settings = ["agent=random", "episodes=2", "top=1", "subsets=5", "baselines=[]"]
    done = call("train", f"suite={suite_file}", f"run_dir={tmp_path}", *settings)
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
        ("agent.name=pppo", "Did you mean 'ppo'"),
        ("episodes=0", "episodes is a whole number of at least 1, got 0"),
        ("top=none", "top is a whole number of at least 1, got 'none'"),
        ("subsets=1000", "1000"),
        ("reward.scale=2", "2"),
        ("environment.max_depth=0", "max_depth"),
        ("+environment.colour=red", "colour"),
        ("seed=-1", "whole number of at least 0, got -1"),
        ("seed=abc", "whole number of at least 0, got 'abc'"),
        ("threads=0", "threads is a whole number of at least 1, got 0"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_before_the_search(
    suite_file: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train.prepare(configuration("train", suite_file, override), tmp_path)
    assert not list(tmp_path.iterdir())
