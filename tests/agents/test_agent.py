"""The look-up, the checks, the configuration files, and what every agent does alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import agents
from agents.agent import _AGENTS, AskTell
from merge_gym import rewards, spaces
from merge_gym.envs.making import OF_THE_ENVIRONMENT
from merge_gym.rewards.reward import _REWARDS
from merge_gym.settings import settings_of_dataclass
from merge_gym.spaces.space import _SPACES
from tests.agents.conftest import SEARCHING, quick

CONF = Path(__file__).parents[2] / "conf"
IN_ENVIRONMENT = ("a2c", "dqn", "maskable_ppo", "ppo", "random")


def test_every_agent_is_found_by_its_name():
    assert {*IN_ENVIRONMENT, "evolution"} <= set(agents.available())


def test_unknown_agent_is_refused_with_the_nearest_names():
    for look_up in (agents.make, agents.settings_of):
        with pytest.raises(ValueError, match=r"unknown agent 'pppo'.*Did you mean 'ppo'"):
            look_up("pppo")


def test_unknown_setting_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"of agent 'ppo' 'learning_rat'.*'learning_rate'"):
        agents.make("ppo", learning_rat=1e-3)


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
        ("random", {"episodes": 0}),
        ("random", {"top": 0}),
        ("evolution", {"z": -0.5}),
        ("evolution", {"blocks": 2}),
        ("evolution", {"step": 0.9}),
        ("evolution", {"racing": None}),
    ],
)
def test_setting_out_of_range_is_refused_by_name(name, given):
    key, value = next(iter(given.items()))
    with pytest.raises(ValueError, match=f"agent '{name}': {key} is .*, got {value!r}"):
        agents.make(name, **given)


def _composed(program: str, *overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base=None):
        config = OmegaConf.to_container(compose(program, list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return config


@pytest.mark.parametrize("name", agents.available())
def test_every_agent_has_a_configuration_file_with_its_defaults(name):
    given = _composed("search", f"agent={name}")["agent"]
    defaults = {key: setting.default for key, setting in agents.settings_of(name).items()}
    for key in ("episodes", "top"):  # stand in train.yaml
        defaults.pop(key, None)
    assert given == {"name": name} | defaults


def test_the_training_program_gives_what_its_agents_files_leave_out():
    given = _composed("train")
    defaults = {key: setting.default for key, setting in agents.settings_of("random").items()}
    assert {key: given[key] for key in defaults} == defaults
    assert set(given["environment"]) == set(OF_THE_ENVIRONMENT) - {"render_mode", "observe_mask"}


@pytest.mark.parametrize("name", spaces.available())
def test_every_space_has_a_configuration_file_with_its_defaults(name):
    known = settings_of_dataclass(_SPACES[name])
    defaults = {key: setting.default for key, setting in known.items()}
    assert _composed("search", f"space={name}")["space"] == {"name": name} | defaults


@pytest.mark.parametrize("name", rewards.available())
def test_every_reward_has_a_configuration_file_with_its_defaults(name):
    given = _composed("train", f"reward={name}")["reward"]
    fields = [of for of in dataclasses.fields(_REWARDS[name]) if of.init]
    assert given == {"name": name} | {of.name: of.default for of in fields}
    assert isinstance(rewards.make(**given), _REWARDS[name])


@pytest.mark.parametrize(
    ("group", "known"),
    [
        ("agent", agents.available()),
        ("space", spaces.available()),
        ("reward", rewards.available()),
    ],
)
def test_no_configuration_file_names_what_is_not_there(group, known):
    assert {file.stem for file in (CONF / group).glob("*.yaml")} == set(known)


@pytest.mark.parametrize("name", SEARCHING)
def test_the_seed_alone_decides_the_trials(search, name):
    first, again, other = (search(name, seed=seed) for seed in (0, 0, 1))
    assert _figures(first) == _figures(again)
    assert len(first.trials) > 8
    assert [trial.recipe for trial in first.trials] != [trial.recipe for trial in other.trials]


@pytest.mark.parametrize("name", SEARCHING)
def test_no_agent_spends_more_than_the_budget_and_all_find_something(make_study, name):
    study = make_study(5.3)
    quick(name, episodes=10_000).search(study)
    assert study.spent == sum(trial.charged for trial in study.trials)
    assert study.full_cost <= study.spent <= study.budget
    assert study.best() in study.trials


@pytest.mark.parametrize("name", IN_ENVIRONMENT)
def test_an_agent_of_the_environment_does_not_search_other_spaces(make_study, name):
    study = make_study(space="layerwise")
    with pytest.raises(ValueError, match=r"walks through layers.*space=walk, not Layerwise"):
        quick(name).search(study)
    assert not study.trials


@pytest.fixture
def probe(monkeypatch):
    """An agent that proposes batches until it has no more of them."""

    @dataclasses.dataclass
    class Probe(AskTell):
        batches: int = 2
        told: list = dataclasses.field(default_factory=list, init=False)

        def ask(self, study):
            names = study.space.candidates.names
            starts = [study.space.starts()[name] for name in names]
            return starts[2 * len(self.told) :][:2] if len(self.told) < self.batches else []

        def tell(self, trials):
            self.told.append(trials)

    monkeypatch.setitem(_AGENTS, "probe", Probe)
    return Probe


def test_what_asks_is_told_batch_by_batch_until_it_asks_no_more(make_study, probe):
    study, agent = make_study(), probe()
    agent.search(study)
    assert [len(batch) for batch in agent.told] == [2, 2]
    assert [trial for batch in agent.told for trial in batch] == study.trials
    assert agent.describe() == {"name": "probe", "batches": 2}


def test_a_batch_that_is_too_dear_ends_a_search_before_it_is_scored(make_study, probe):
    study, agent = make_study(budget=3), probe()
    agent.search(study)
    assert (len(agent.told), study.spent) == (1, 2 * study.full_cost)


def test_other_errors_are_not_taken_for_the_end_of_a_budget(make_study, probe):
    @dataclasses.dataclass
    class Broken(probe):
        def tell(self, trials):
            raise KeyError("broken")

    _AGENTS["probe"] = Broken
    with pytest.raises(KeyError, match="broken"):
        Broken().search(make_study())


def _figures(study):
    return [trial.to_dict() for trial in study.trials]
