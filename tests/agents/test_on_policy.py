"""Updates every n episodes, with two learning rates."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import agents
from agents.episodes import RecordEpisodes, read_episodes
from agents.sb3.on_policy import collect_episodes
from tests.agents.conftest import quick

ON_POLICY = ("ppo", "maskable_ppo", "a2c")
SB3_NAMES = {
    "value_coefficient": "vf_coef",
    "entropy_coefficient": "ent_coef",
    "epochs": "n_epochs",
}


@pytest.fixture(params=ON_POLICY)
def model(request, make_env, tmp_path):
    """A fresh model with room for many steps, in a recorded environment."""
    env = RecordEpisodes(make_env(), tmp_path / "episodes.jsonl")
    model = agents.make(request.param).model(env, n_steps=200, seed=0)
    model.learn(total_timesteps=0)
    yield model
    env.close()


def _records(model):
    return model.env.envs[0].get_wrapper_attr("records")


def test_a_rollout_is_whole_episodes_of_different_lengths(model):
    collect_episodes(model, 8)
    buffer = model.rollout_buffer
    starts = np.flatnonzero(buffer.episode_starts[:, 0])
    lengths = np.diff([*starts, buffer.buffer_size])
    assert len(_records(model)) == len(lengths) == 8
    assert len(set(lengths)) > 1
    assert buffer.rewards.shape == (lengths.sum(), 1)


def test_reward_of_each_episode_stands_at_its_last_step(model):
    collect_episodes(model, 5)
    buffer = model.rollout_buffer
    ends = np.append(np.flatnonzero(buffer.episode_starts[1:, 0]), buffer.buffer_size - 1)
    rewards = np.array([record.reward for record in _records(model)], np.float32)
    assert (buffer.rewards[ends, 0] == rewards).all()
    assert np.count_nonzero(buffer.rewards) == np.count_nonzero(rewards)


def test_returns_are_discounted_rewards_without_bootstrapping(model):
    collect_episodes(model, 1)
    buffer = model.rollout_buffer
    steps = buffer.buffer_size
    expected = _records(model)[0].reward * 0.99 ** np.arange(steps - 1, -1, -1)
    assert buffer.returns[:, 0] == pytest.approx(expected, rel=1e-4)


def test_rollouts_grow_and_shrink(model):
    sizes = []
    for count in (1, 6, 2):
        collect_episodes(model, count)
        sizes.append(len(model.rollout_buffer.rewards))
    assert sizes[1] > sizes[2] >= 1
    assert sum(sizes) == model.num_timesteps


def test_updates_come_every_n_episodes(make_study):
    agent = quick("ppo", 12, episodes_per_update=5, epochs=3)
    agent.search(make_study())
    assert agent._model._n_updates == 3 * 3  # after 5, 10 and the last 2 episodes


def test_an_epoch_is_one_step_on_the_full_batch(model):
    collect_episodes(model, 4)
    model.train()
    steps = {int(state["step"]) for state in model.policy.optimizer.state.values()}
    assert steps == {getattr(model, "n_epochs", 1)}


def test_learning_rates_of_actor_and_critic_survive_updates(model):
    for _ in range(2):
        collect_episodes(model, 4)
        model.train()
    actor, critic = model.policy.optimizer.param_groups
    assert actor["lr"] == model.learning_rate != critic["lr"] == model.critic_learning_rate
    names = {id(value): name for name, value in model.policy.named_parameters()}
    assert all("value_net" in names[id(value)] for value in critic["params"])
    assert not any("value_net" in names[id(value)] for value in actor["params"])
    assert len(actor["params"]) + len(critic["params"]) == len(names)


@pytest.mark.parametrize("name", ON_POLICY)
def test_hyperparameters_reach_the_algorithm(make_env, name):
    given = {
        "learning_rate": 0.1,
        "critic_learning_rate": 0.2,
        "gamma": 0.3,
        "gae_lambda": 0.4,
        "value_coefficient": 0.5,
        "entropy_coefficient": 0.6,
        "max_grad_norm": 0.7,
        "normalize_advantage": False,
    }
    if name != "a2c":
        given |= {"epochs": 8, "clip_range": 0.9}
    model = agents.make(name, **given).model(make_env(), n_steps=50, seed=11)
    reached = {key: getattr(model, SB3_NAMES.get(key, key)) for key in given if key != "clip_range"}
    assert reached == {key: value for key, value in given.items() if key != "clip_range"}
    assert name == "a2c" or (model.clip_range(1.0), model.batch_size) == (0.9, 50)
    assert (model.seed, model.rollout_buffer.gamma, model.rollout_buffer.gae_lambda) == (
        11,
        0.3,
        0.4,
    )


def test_actor_and_critic_are_two_networks_of_64_and_64_with_tanh(model):
    networks = model.policy.mlp_extractor
    for network in (networks.policy_net, networks.value_net):
        first, act, second, act_again = network
        assert (first.out_features, second.in_features, second.out_features) == (64, 64, 64)
        assert isinstance(act, torch.nn.Tanh)
        assert isinstance(act_again, torch.nn.Tanh)


def test_zero_actor_rate_moves_the_critic_only(make_env):
    env = RecordEpisodes(make_env())
    model = agents.make("ppo", learning_rate=0, epochs=2).model(env, n_steps=100, seed=0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(total_timesteps=0)
    collect_episodes(model, 4)
    model.train()
    for name, value in model.policy.state_dict().items():
        assert torch.equal(value, before[name]) is ("value_net" not in name), name


def test_masked_agent_takes_allowed_actions_only(make_env):
    model = agents.make("maskable_ppo").model(make_env(), n_steps=500, seed=0)
    model.learn(total_timesteps=0)
    collect_episodes(model, 30)
    masks, actions = model.rollout_buffer.action_masks[:, 0], model.rollout_buffer.actions[:, 0]
    assert not masks.all()
    assert np.take_along_axis(masks, actions, axis=1).all()


def test_tensorboard_files_hold_the_standard_names(search, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    search("ppo", tmp_path, 8)
    records = read_episodes(tmp_path / "episodes.jsonl")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"rollout/ep_rew_mean", "rollout/raw_rew_mean", "train/value_loss"} <= tags
    best = events.Scalars("rollout/raw_rew_best")[-1].value
    assert best == pytest.approx(max(record.raw_reward for record in records))


def test_a_search_that_goes_on_logs_each_episode_once(search, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for resume in (False, True):
        search("ppo", tmp_path, 8, resume=resume)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [scalar.value for scalar in events.Scalars("time/episodes")] == [4, 8]


def test_without_a_directory_nothing_is_logged(search, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search("ppo", None, 8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [*ON_POLICY, "dqn"])
def test_greedy_recipe_leaves_the_environment_as_it_is(make_study, name):
    study, agent = make_study(), quick(name, 8)
    agent.search(study)
    env = agent.make_environment(study)
    env.reset(seed=3)
    env.step(0)
    before = _state(env)
    assert agent.greedy_recipe(env) == agent.greedy_recipe(env)
    assert _state(env) == before


def _state(env):
    state = vars(env.episode), vars(env.reward), env.np_random.bit_generator.state
    return copy.deepcopy((*state, env.schedule.position, env.schedule.current))


def test_greedy_recipe_takes_the_likeliest_actions(make_study):
    study, agent = make_study(), quick("ppo", 4)
    agent.search(study)
    with torch.no_grad():
        agent._model.policy.action_net.weight.zero_()
        agent._model.policy.action_net.bias.copy_(torch.arange(7.0).roll(3) / 100)  # action 2 leads
    candidates = study.space.candidates
    greedy = agent.greedy_recipe(agent.make_environment(study))
    assert greedy == candidates.recipe([(layer, 2) for layer in range(3)])
