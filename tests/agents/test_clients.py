"""`ModelMerge-v0` under RL code that knows nothing of this project."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
from stable_baselines3.common.env_util import make_vec_env

from examples import cleanrl_ppo


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        (stable_baselines3.PPO, {"n_steps": 32, "batch_size": 16}),
        (stable_baselines3.A2C, {}),
        (stable_baselines3.DQN, {"learning_starts": 16, "buffer_size": 100}),
        (sb3_contrib.MaskablePPO, {"n_steps": 32, "batch_size": 16}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_untouched_algorithm_learns(make_env, algorithm, settings):
    model = algorithm("MlpPolicy", make_env(), seed=0, device="cpu", **settings)
    before = [value.clone() for value in model.policy.parameters()]
    model.learn(64)
    assert model.num_timesteps >= 64
    assert len(model.ep_info_buffer) > 5
    after = model.policy.parameters()
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


def test_sb3_learns_in_several_environments_at_once(suite):
    envs = make_vec_env("ModelMerge-v0", n_envs=2, seed=0, env_kwargs={"suite": suite})
    model = stable_baselines3.PPO("MlpPolicy", envs, n_steps=16, batch_size=16, device="cpu")
    assert model.learn(64).num_timesteps >= 64


def _play(envs, steps):
    """Everything the environments say to the same random actions."""
    observation, _ = envs.reset(seed=7)
    envs.action_space.seed(7)
    said = [observation.copy()]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = envs.step(envs.action_space.sample())
        said += [observation.copy(), reward.copy(), terminated.copy()]
        assert not truncated.any()
    envs.close()
    return said


def test_make_vec_says_the_same_in_one_process_and_in_several(suite):
    sync, asynchronous = (
        _play(gym.make_vec("ModelMerge-v0", num_envs=2, vectorization_mode=mode, suite=suite), 24)
        for mode in ("sync", "async")
    )
    assert any(reward.any() for reward in sync[2::3])
    for one, other in zip(sync, asynchronous, strict=True):
        np.testing.assert_array_equal(one, other)


def test_cleanrl_style_loop_learns_to_build_models(suite, capsys):
    rewards = cleanrl_ppo.main(suite=suite, seed=0, total_timesteps=1280, num_envs=4)
    assert np.mean(rewards[-50:]) > np.mean(rewards[:50])
    assert "charts/episodic_return" in capsys.readouterr().out
