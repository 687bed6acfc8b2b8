"""A search that is killed at any moment ends as one that was not."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest

import agents
from agents.episodes import read_episodes
from experiments.tabulate import tabulate
from merge_gym.evaluation.table import load_table
from merge_gym.files import read_lines
from merge_gym.spaces.walk import Walk
from merge_gym.studies.study import Study
from tests.agents.conftest import SEARCHING, quick
from tests.searching import CountingScorer

EPISODES = 16
FILES = ("trials.jsonl", "study.json")


def _assert_same(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_text() == (other / name).read_text(), name
    assert _scores(one) == _scores(other)
    if (one / "episodes.jsonl").exists():
        assert _episodes(one) == _episodes(other)


def _episodes(directory: Path) -> list[dict]:
    records = read_episodes(directory / "episodes.jsonl")
    return [{**vars(record), "seconds": 0} for record in records]


def _scores(directory: Path) -> set[str]:
    return {str(entry) for entry in read_lines(directory / "scores.jsonl")}


def _kill_at(trial: int, delay: float, search, name: str, directory: Path) -> bool:
    """Search in a forked process and kill -9 it `delay` seconds after `trial` trials; whether it
    was still running."""
    process = multiprocessing.get_context("fork").Process(
        target=search, args=(name, directory, EPISODES), kwargs={"resume": True}
    )
    process.start()
    while process.is_alive() and len(read_lines(directory / "trials.jsonl")) < trial:
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module", params=SEARCHING)
def whole(request, search, scorer, tmp_path_factory):
    """An agent's name, its search in one go, and the folder and the scorer of that."""
    directory, counting = tmp_path_factory.mktemp("whole"), CountingScorer(scorer)
    study = search(request.param, directory, EPISODES, scorer=counting)
    return request.param, study, directory, counting


def test_killed_search_ends_as_one_that_was_not(search, tmp_path, whole):
    name, study, directory, _ = whole
    killed, trials = tmp_path / "killed", len(study.trials)
    moments = random.Random(name)
    kills = [
        _kill_at(trial, moments.uniform(0, 0.01), search, name, killed)
        for trial in sorted(moments.sample(range(trials - 4), 2))
    ]
    assert any(kills)
    search(name, killed, EPISODES, resume=True)
    _assert_same(directory, killed)


@pytest.mark.parametrize("name", ["ppo", "evolution"])
def test_a_damaged_journal_costs_the_lost_scores_alone(search, tmp_path, name):
    whole, other = tmp_path / "whole", tmp_path / "other"
    for directory in (whole, other):
        search(name, directory)
    lines = (other / "scores.jsonl").read_text().splitlines(keepends=True)
    lines[2] = lines[2][:30] + "\n"
    (other / "scores.jsonl").write_text("".join(lines)[:-10])
    search(name, other, resume=True)
    _assert_same(whole, other)


def test_a_finished_search_is_scored_by_the_journal_alone(search, whole):
    name, _, directory, counting = whole
    asked = counting.asked
    search(name, directory, EPISODES, scorer=counting, resume=True)
    assert counting.asked == asked > 0


def test_resuming_where_nothing_is_begins(search, tmp_path):
    assert search("random", tmp_path / "new", resume=True).trials


def test_a_larger_budget_goes_on_with_what_a_smaller_one_found(make_study, tmp_path):
    """On a walk, where evolution does not look at its budget."""
    for budget, directory in ((12, "whole"), (5, "longer"), (12, "longer")):
        with make_study(budget, directory=tmp_path / directory, resume=True) as study:
            agents.make("evolution").search(study)
    assert study.spent > 11 * study.full_cost
    _assert_same(tmp_path / "whole", tmp_path / "longer")


def test_more_episodes_are_another_search(search, tmp_path):
    search("ppo", tmp_path, 8)
    with pytest.raises(ValueError, match=r"begun otherwise \(agent.episodes was 8, is 16\)"):
        search("ppo", tmp_path, 16, resume=True)


def test_a_search_on_a_table_of_scores_goes_on_too(bank, tmp_path):
    tabulate(bank, tmp_path / "table.safetensors")
    table = load_table(tmp_path / "table.safetensors", subsets=4)

    def run(directory: Path, name: str = "ppo") -> None:
        with Study(Walk(table.candidates), table, None, 0, directory, resume=True) as study:
            quick(name).search(study)

    run(tmp_path / "whole")
    run(tmp_path / "other")
    lines = (tmp_path / "other" / "scores.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "other" / "scores.jsonl").write_text("".join(lines[: len(lines) // 2]))
    run(tmp_path / "other")
    _assert_same(tmp_path / "whole", tmp_path / "other")
