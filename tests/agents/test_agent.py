"""The look-up, the checks and the files of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import agents
from agents.agent import _AGENTS, hyperparameters
from agents.episodes import read_episodes

CONF = Path(__file__).parents[2] / "conf" / "agent"


def test_every_agent_is_found_by_its_name():
    assert {"a2c", "dqn", "maskable_ppo", "ppo", "random"} <= set(agents.available())


def test_unknown_agent_is_refused_with_the_nearest_names(make_env, tmp_path):
    with pytest.raises(ValueError, match=r"unknown agent 'pppo'.*Did you mean 'ppo'"):
        agents.make("pppo", make_env(), 0, tmp_path)


def test_unknown_hyperparameter_is_refused_with_the_nearest_names(make_env, tmp_path):
    with pytest.raises(ValueError, match=r"'learning_rat'.*'learning_rate'"):
        agents.make("ppo", make_env(), 0, tmp_path, learning_rat=1e-3)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ppo", {"gamma": 1.5}),
        ("ppo", {"learning_rate": -1e-3}),
        ("ppo", {"epochs": 2.5}),
        ("ppo", {"episodes_per_update": 0}),
        ("ppo", {"normalize_advantage": 1}),
        ("dqn", {"batch_size": "64"}),
        ("a2c", {"learning_rate": float("nan")}),
    ],
)
def test_hyperparameter_out_of_range_is_refused_by_name(make_env, tmp_path, name, given):
    key, value = next(iter(given.items()))
    with pytest.raises(ValueError, match=f"agent '{name}': {key} is .*, got {value!r}"):
        agents.make(name, make_env(), 0, tmp_path, **given)


@pytest.mark.parametrize("name", ["ppo", "a2c", "dqn", "random"])
def test_configuration_file_says_the_defaults(name):
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert config.pop("name") == name
    defaults = {key: value.default for key, value in hyperparameters(_AGENTS[name]).items()}
    assert {key: type(defaults[key])(value) for key, value in config.items()} == defaults


def test_a_run_is_not_written_over(search, tmp_path):
    search("random", tmp_path, 2)
    with pytest.raises(ValueError, match=r"holds a run already.*resume=True"):
        search("random", tmp_path, 2)
    assert len(read_episodes(tmp_path / "episodes.jsonl")) == 2


def test_a_run_is_not_resumed_with_another_seed(search, tmp_path):
    search("random", tmp_path, 2)
    with pytest.raises(ValueError, match=r"started otherwise .seed was 0, is 1"):
        search("random", tmp_path, 2, seed=1, resume=True)


def test_a_run_is_not_resumed_in_another_environment(search, make_env, tmp_path):
    search("random", tmp_path, 2)
    other = agents.make("random", make_env(subsets=3), 0, tmp_path)
    with pytest.raises(ValueError, match="subsets was 4, is 3"):
        other.search(2, resume=True)


def test_resuming_where_nothing_is_begins(search, tmp_path):
    assert len(search("random", tmp_path / "new", 3, resume=True)) == 3


def test_a_search_needs_an_episode(search, tmp_path):
    with pytest.raises(ValueError, match="at least 1 episode, got 0"):
        search("random", tmp_path, 0)


def test_search_leaves_the_environment_its_evaluator(make_env, tmp_path):
    env = make_env()
    evaluator = env.unwrapped.evaluator
    agents.make("random", env, 0, tmp_path).search(2)
    assert env.unwrapped.evaluator is evaluator


def test_listener_hears_each_episode_once(make_env, tmp_path):
    heard = []
    records = agents.make("random", make_env(), 0, tmp_path).search(3, on_episode=heard.append)
    assert heard == records


@pytest.mark.parametrize("name", agents.available())
def test_same_seed_gives_the_same_episodes(search, tmp_path, name):
    first, second = (search(name, tmp_path / run, 12) for run in "ab")
    assert _figures(first) == _figures(second)
    assert len(first) == 12


@pytest.mark.parametrize("name", agents.available())
def test_other_seed_gives_other_episodes(search, tmp_path, name):
    first, second = (search(name, tmp_path / str(seed), 12, seed) for seed in (0, 1))
    assert [record.subset for record in first] != [record.subset for record in second]
    assert [record.recipe for record in first] != [record.recipe for record in second]


def test_random_takes_allowed_actions_only(make_env, tmp_path):
    records = agents.make("random", make_env(max_steps=1000), 0, tmp_path).search(40)
    assert all(record.recipe for record in records)  # only a forbidden step back spoils one here


def _figures(records):
    return [{**vars(record), "seconds": 0} for record in records]
