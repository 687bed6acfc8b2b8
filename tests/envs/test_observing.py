"""Observations that hold the mask: the plain observation and the mask of the info, by name."""

import gymnasium as gym
import numpy as np
import pytest

NAMES = ("obs", "mask")


def make(name, observe_mask):
    return gym.make(name, table="fashion-halves-0", observe_mask=observe_mask)


@pytest.mark.parametrize("name", ["ModelMerge-v0", "ModelEdit-v0"])
@pytest.mark.parametrize(
    ("asked", "names"), [(True, ("observations", "action_mask")), (NAMES, NAMES)]
)
def test_the_parts_are_the_plain_observation_and_the_infos_mask(name, asked, names):
    plain, env = make(name, False), make(name, asked)
    for action in (None, 0, 3, 1):
        expected, _ = plain.reset(seed=0) if action is None else plain.step(action)[:2]
        given = env.reset(seed=0) if action is None else env.step(action)
        observation, info = given[0], given[-1]
        assert observation in env.observation_space
        np.testing.assert_array_equal(observation[names[0]], expected)
        np.testing.assert_array_equal(observation[names[1]], info["action_mask"])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_many_environments_show_what_single_ones_show(mode):
    settings = {"table": "fashion-halves-0", "observe_mask": NAMES}
    envs = gym.make_vec("ModelMerge-v0", 2, **settings, autoreset_mode=mode)
    single = gym.make("ModelMerge-v0", **settings)
    envs.reset(seed=0)
    single.reset(seed=0)
    for action in (0, 1, 2, 3, 0, 1):
        observations, _, _, _, infos = envs.step(np.array([action, 4]))
        observation, *_ = single.step(action)
    if mode == "SameStep":
        assert not observations["obs"].any()
        assert observations["mask"].any(axis=1).all()
        observations = infos["final_obs"][0]
    else:
        assert observations in envs.observation_space
        observations = {name: part[0] for name, part in observations.items()}
    for name in NAMES:
        np.testing.assert_array_equal(observations[name], observation[name])
