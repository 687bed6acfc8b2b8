"""The vector environment against single environments given the same actions."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from merge_gym.envs.model_merge import make_env
from merge_gym.envs.vector import ModelMergeVectorEnv
from merge_gym.evaluation.subsets import SubsetSchedule
from merge_gym.rewards import DynamicAverage

SUBSETS = 3
HORIZON = 7


@pytest.fixture
def settings(suite):
    return {"suite": suite, "subsets": SUBSETS, "max_depth": 4, "dar_horizon": HORIZON}


def random_actions(masks, generator):
    """An action for each row, mostly an allowed one."""
    return np.array(
        [
            generator.choice(np.flatnonzero(mask))
            if generator.random() < 0.9
            else generator.integers(len(mask))
            for mask in masks
        ]
    )


def assert_same_info(given, expected):
    assert given.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, dict):
            assert_same_info(given[key], value)
        else:
            np.testing.assert_array_equal(given[key], value, err_msg=key)


@pytest.mark.parametrize("observe_cursor", [False, True])
@pytest.mark.parametrize("dar_scale", [0.0, 0.8])
def test_one_environment_equals_the_single_one_in_every_number(settings, observe_cursor, dar_scale):
    settings |= {"observe_cursor": observe_cursor, "dar_scale": dar_scale}
    vector, single = (
        ModelMergeVectorEnv(1, **settings),
        SyncVectorEnv([lambda: make_env(**settings)]),
    )
    generator = np.random.default_rng(0)
    for options in (None, {"subset": "full"}, {"subset": 2}):
        (given, infos), (expected, expected_infos) = (
            envs.reset(seed=5, options=options) for envs in (vector, single)
        )
        np.testing.assert_array_equal(given, expected)
        assert_same_info(infos, expected_infos)
        for _ in range(150):
            actions = random_actions(infos["action_mask"], generator)
            *given, infos = vector.step(actions)
            *expected, expected_infos = single.step(actions)
            for value, other in zip(given, expected, strict=True):
                np.testing.assert_array_equal(value, other)
                assert value.dtype == other.dtype
            assert_same_info(infos, expected_infos)


def test_many_environments_follow_the_rules_of_single_ones(settings):
    """Everything but the choice of subset and the average is that of N single environments."""
    count = 5
    vector = ModelMergeVectorEnv(count, **settings)
    singles = SyncVectorEnv([lambda: make_env(**settings, dar_scale=0.0)] * count)
    _, infos = vector.reset(seed=1)
    singles.reset(seed=1)
    generator = np.random.default_rng(1)
    for _ in range(120):
        actions = random_actions(infos["action_mask"], generator)
        observations, _, terminated, truncated, infos = vector.step(actions)
        expected, _, expected_terminated, _, expected_infos = singles.step(actions)
        np.testing.assert_array_equal(observations, expected)
        np.testing.assert_array_equal(terminated, expected_terminated)
        assert not truncated.any()
        for key in ("action_mask", "recipe", "depth"):
            if key in expected_infos:
                np.testing.assert_array_equal(infos[key], expected_infos[key])
                np.testing.assert_array_equal(infos[f"_{key}"], expected_infos[f"_{key}"])


def test_a_round_is_scored_on_one_subset_and_shares_one_average(settings):
    vector = ModelMergeVectorEnv(4, **settings)
    _, infos = vector.reset(seed=2)
    generator = np.random.default_rng(2)
    schedule = SubsetSchedule(SUBSETS, np.random.default_rng(np.random.PCG64(2)))
    schedule = SubsetSchedule(SUBSETS, gym.utils.seeding.np_random(2)[0])
    average = DynamicAverage(0.8, HORIZON)
    rounds = 0
    for _ in range(150):
        _, rewards, terminated, _, infos = vector.step(
            random_actions(infos["action_mask"], generator)
        )
        expected = np.where(terminated, -10.0, 0.0)
        scored = np.flatnonzero(infos.get("_recipe", []))
        for number, row in enumerate(scored):
            assert infos["subset"][row] == schedule.current
            assert infos["pass_position"][row] == schedule.position
            scores = vector.single.evaluator.score(infos["recipe"][row], subset=schedule.current)
            assert {task: infos["scores"][task][row] for task in scores} == scores
            raw = 100 * np.mean(list(scores.values()))
            assert infos["raw_reward"][row] == raw
            expected[row] = average.smooth(raw, schedule.position == 0 and number == 0)
        if len(scored):
            schedule.advance()
            rounds += 1
        np.testing.assert_array_equal(rewards, expected)
    assert rounds > 2 * SUBSETS


def test_a_seed_makes_rewards_repeat(settings):
    def rewards():
        vector = ModelMergeVectorEnv(3, **settings)
        _, infos = vector.reset(seed=7)
        generator = np.random.default_rng(7)
        for _ in range(40):
            *_, infos = step = vector.step(random_actions(infos["action_mask"], generator))
            yield step[1].tolist()

    assert list(rewards()) == list(rewards())


def test_make_vec_makes_it_and_the_spec_remakes_it(suite_file):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.make_vec("ModelMerge-v0", num_envs=2, suite=str(suite_file), subsets=SUBSETS)
        again = gym.make_vec(envs.spec)
    assert isinstance(envs, ModelMergeVectorEnv)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert again.num_envs == 2
    assert again.observation_space == envs.observation_space
    observations, _ = envs.reset(seed=0)
    assert observations in envs.observation_space


def test_render_shows_every_environment(settings):
    vector = ModelMergeVectorEnv(2, **settings, render_mode="ansi")
    vector.reset(seed=0)
    vector.step(np.array([0, 1]))
    first, second = vector.render()
    assert first != second
    assert "average" in first


@pytest.mark.parametrize("actions", [[0], [0, 99], [0, -1], [0.5, 0.0]])
def test_actions_of_another_shape_or_outside_the_space_are_refused(settings, actions):
    vector = ModelMergeVectorEnv(2, **settings)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="2 integers from 0 to 6"):
        vector.step(actions)


def test_stepping_before_reset_is_refused(settings):
    with pytest.raises(ResetNeeded):
        ModelMergeVectorEnv(2, **settings).step(np.zeros(2, np.int64))


def test_bad_settings_are_refused(suite):
    with pytest.raises(ValueError, match="num_envs"):
        ModelMergeVectorEnv(0, suite=suite)
    with pytest.raises(ValueError, match="scale"):
        ModelMergeVectorEnv(1, suite=suite, dar_scale=2.0)
