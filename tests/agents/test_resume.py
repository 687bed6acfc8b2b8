"""A run that is killed at any moment ends as one that was not."""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import pytest
import torch

import agents
from agents.episodes import read_episodes
from agents.sb3.checkpoint import Checkpoint
from experiments.tabulate import tabulate
from merge_gym.studies.lines import read_lines

ON_POLICY = ("ppo", "maskable_ppo", "a2c")
EPISODES = 30
FRESH_PROCESS = """
import sys, gymnasium, torch, merge_gym, agents
torch.set_num_threads(1)
suite, directory = sys.argv[1:]
env = gymnasium.make("ModelMerge-v0", suite=suite, subsets=4, dar_horizon=20)
agents.make("ppo", env, 0, directory, epochs=3, learning_rate=1e-2).search(120, resume=True)
"""


def _figures(directory: Path) -> list[dict]:
    return [
        {**vars(record), "seconds": 0} for record in read_episodes(directory / "episodes.jsonl")
    ]


def _assert_same_run(one: Path, other: Path) -> None:
    assert _figures(one) == _figures(other)
    if (one / "checkpoint.safetensors").exists():
        _assert_same_checkpoint(one, other)


def _assert_same_checkpoint(one: Path, other: Path) -> None:
    first, second = (Checkpoint.read(run / "checkpoint.safetensors") for run in (one, other))
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    for checkpoint in (first, second):
        for episode in checkpoint.state["recent"]:
            del episode["t"]  # Stable-Baselines3's clock
    assert first.state == second.state


def _kill_at(episode: int, delay: float, search, name: str, directory: Path) -> bool:
    """Run in a forked process and kill -9 it `delay` seconds after `episode` episodes have ended;
    whether it was still running."""
    process = multiprocessing.get_context("fork").Process(
        target=search, args=(name, directory, EPISODES), kwargs={"resume": True}
    )
    process.start()
    while process.is_alive() and len(read_lines(directory / "episodes.jsonl")) < episode:
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("name", agents.available())
def test_killed_run_ends_as_one_that_was_not(search, tmp_path, name):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    search(name, whole, EPISODES)
    moments = random.Random(name)
    kills = [
        _kill_at(episode, moments.uniform(0, 0.01), search, name, killed)
        for episode in sorted(moments.sample(range(EPISODES - 4), 4))
    ]
    assert any(kills)
    search(name, killed, EPISODES, resume=True)
    _assert_same_run(whole, killed)


@pytest.mark.parametrize("name", ON_POLICY)
@pytest.mark.parametrize("surplus", [0, 3])
def test_run_goes_on_from_its_checkpoint_alone(search, tmp_path, name, surplus):
    """Without the journal, and with episodes after the last checkpoint or none."""
    whole, other = tmp_path / "whole", tmp_path / "other"
    search(name, whole, 24)
    search(name, other, 12)
    lines = (whole / "episodes.jsonl").read_text().splitlines(keepends=True)
    (other / "episodes.jsonl").write_text("".join(lines[: 12 + surplus]))
    (other / "scores.jsonl").unlink()
    search(name, other, 24, resume=True)
    _assert_same_run(whole, other)


def test_fresh_process_goes_on_where_a_killed_one_stopped(suite_file, search, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    search("ppo", whole, 120)
    command = [sys.executable, "-c", FRESH_PROCESS, str(suite_file), str(killed)]
    process = subprocess.Popen(command)
    checkpoint = killed / "checkpoint.safetensors"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < len(read_episodes(killed / "episodes.jsonl")) < 120
    search("ppo", killed, 120, resume=True)
    _assert_same_run(whole, killed)


def test_finished_run_is_not_played_again(search, tmp_path):
    search("ppo", tmp_path, 10)
    before = (tmp_path / "episodes.jsonl").read_bytes()
    assert len(search("ppo", tmp_path, 10, resume=True)) == 10
    assert (tmp_path / "episodes.jsonl").read_bytes() == before


def test_lost_episodes_are_played_again_although_the_checkpoint_is_later(search, tmp_path):
    whole, other = tmp_path / "whole", tmp_path / "other"
    for directory in (whole, other):
        search("ppo", directory, 12)
    (other / "episodes.jsonl").write_text("")
    search("ppo", other, 12, resume=True)
    _assert_same_run(whole, other)


def test_a_run_on_a_table_of_scores_goes_on_too(bank, tmp_path):
    tabulate(bank, tmp_path / "table.safetensors")
    env = gym.make("ModelMerge-v0", table=tmp_path / "table.safetensors", subsets=4)
    whole, longer = tmp_path / "whole", tmp_path / "longer"
    agents.make("ppo", env, 0, whole).search(12)
    for episodes in (4, 12):
        agents.make("ppo", env, 0, longer).search(episodes, resume=True)
    _assert_same_run(whole, longer)


def test_a_run_can_be_made_longer(search, tmp_path):
    whole, longer = tmp_path / "whole", tmp_path / "longer"
    search("ppo", whole, 16)
    search("ppo", longer, 8)
    search("ppo", longer, 16, resume=True)
    _assert_same_run(whole, longer)


def test_replayed_episodes_cost_no_evaluation(make_env, counting, tmp_path):
    for asked in (12, 0):
        env = make_env()
        counting.evaluator, counting.asked = env.unwrapped.evaluator, 0
        env.unwrapped.evaluator = counting
        agents.make("random", env, 0, tmp_path).search(12, resume=True)
        assert counting.asked <= asked
        assert (counting.asked == 0) is (asked == 0)
