"""The vector environment against single environments given the same actions."""

import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from merge_gym import Evaluator
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.envs.vector import ModelMergeVectorEnv
from merge_gym.evaluation.subsets import SubsetSchedule
from merge_gym.rewards import DynamicAverage
from tests.envs.infos import assert_same_infos, check_infos

SUBSETS = 3
HORIZON = 7
CANDIDATES = 5
SKIP, BACK = 5, 6


@pytest.fixture(scope="module")
def scorer(bank):
    return Evaluator(bank, SUBSETS)


@pytest.fixture
def make_single(bank, scorer):
    def make(scale=0.8, **settings):
        reward = DynamicAverage(scale, HORIZON)
        return ModelMergeEnv(bank.candidates, scorer, reward, **{"max_depth": 4, **settings})

    return make


@pytest.fixture
def make(make_single):
    """Makes a vector of environments."""

    def make(count, mode=AutoresetMode.NEXT_STEP, **settings):
        return ModelMergeVectorEnv(make_single(**settings), count, mode)

    return make


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


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(("observe_cursor", "scale"), [(False, 0.8), (True, 0.0)])
def test_one_environment_equals_the_single_one_in_every_number(
    make, make_single, mode, observe_cursor, scale
):
    settings = {"observe_cursor": observe_cursor, "scale": scale}
    vector = make(1, mode, **settings)
    single = SyncVectorEnv([lambda: make_single(**settings)], autoreset_mode=mode)
    generator = np.random.default_rng(0)
    for options in (None, {"subset": "full"}, {"subset": 2}):
        given, expected = (envs.reset(seed=5, options=options) for envs in (vector, single))
        for _ in range(100):
            *values, infos = given
            *expected_values, expected_infos = expected
            for value, other in zip(values, expected_values, strict=True):
                np.testing.assert_array_equal(value, other)
                assert value.dtype == other.dtype
            assert_same_infos(infos, expected_infos)
            if mode is AutoresetMode.DISABLED and len(values) > 1 and values[2].any():
                given, expected = (
                    envs.reset(options={"reset_mask": values[2].copy()})
                    for envs in (vector, single)
                )
            else:
                actions = random_actions(infos["action_mask"], generator)
                given, expected = vector.step(actions), single.step(actions)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_many_environments_follow_the_rules_of_single_ones(make, make_single, mode):
    """Everything but the choice of subset and the average is that of N single environments."""
    count = 5
    vector = make(count, mode)
    singles = SyncVectorEnv([partial(make_single, scale=0.0)] * count, autoreset_mode=mode)
    _, infos = vector.reset(seed=1)
    singles.reset(seed=1)
    generator = np.random.default_rng(1)
    finals = 0
    for _ in range(120):
        actions = random_actions(infos["action_mask"], generator)
        observations, _, terminated, truncated, infos = vector.step(actions)
        expected, _, expected_terminated, _, expected_infos = singles.step(actions)
        np.testing.assert_array_equal(observations, expected)
        np.testing.assert_array_equal(terminated, expected_terminated)
        assert not truncated.any()
        assert_same_infos(alike(infos), alike(expected_infos))
        finals += "final_info" in infos
        if "final_info" in infos:
            assert_same_infos(alike(infos["final_info"]), alike(expected_infos["final_info"]))
            assert infos["_final_info"].tolist() == infos["_final_obs"].tolist()
            assert infos["_final_obs"].tolist() == terminated.tolist()
    assert (finals > 10) == (mode is AutoresetMode.SAME_STEP)


def alike(infos):
    """What does not depend on the subset that an episode is scored on."""
    same = ("action_mask", "taken", "depth", "scored", "evaluation_cost", "final_obs")
    return {key: value for key, value in infos.items() if key.removeprefix("_") in same}


def test_every_info_has_the_same_keys_and_types(make, scorer):
    vector = make(3)
    _, infos = vector.reset(seed=0)
    generator = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        check_infos(infos, scorer.tasks, 3, CANDIDATES, 12)
        _, _, terminated, _, infos = vector.step(random_actions(infos["action_mask"], generator))
        kinds |= set(zip(terminated.tolist(), infos["scored"].tolist(), strict=True))
    assert kinds == {(False, False), (True, False), (True, True)}


def test_an_ended_environment_begins_anew_in_the_next_step_which_ignores_its_action(make):
    vector = make(2)
    vector.reset(seed=0)
    _, rewards, terminated, _, infos = vector.step([BACK, 0])
    assert (rewards.tolist(), terminated.tolist()) == ([-10, 0], [True, False])
    assert infos["depth"].tolist() == [0, 1]
    observations, rewards, terminated, _, infos = vector.step([99, 0])
    assert (rewards.tolist(), terminated.tolist()) == ([0, 0], [False, False])
    assert (observations[0] == 0).all()
    assert infos["depth"].tolist() == [0, 2]
    assert infos["action_mask"][:, BACK].tolist() == [0, 1]


def test_an_environment_that_begins_anew_at_once_shows_what_it_showed_last(make):
    vector = make(2, AutoresetMode.SAME_STEP)
    vector.reset(seed=0)
    for actions in ([0, SKIP], [1, SKIP]):
        *_, infos = vector.step(actions)
        assert "final_info" not in infos
    observations, rewards, terminated, _, infos = vector.step([2, BACK])
    assert terminated.tolist() == [True, False]
    assert (observations[0] == 0).all()
    assert np.flatnonzero(infos["final_obs"][0]).tolist() == [0 * 3, 1 * 3 + 1, 2 * 3 + 2]
    assert infos["final_obs"][1] is None
    final = infos["final_info"]
    assert final["taken"][0, :4].tolist() == [0, 5 + 1, 10 + 2, -1]
    assert final["scored"].tolist() == final["_scored"].tolist() == [True, False]
    assert rewards[0] == final["raw_reward"][0] > 0
    assert (infos["depth"].tolist(), infos["scored"].tolist()) == ([0, 0], [False, False])


def test_a_disabled_autoreset_waits_for_a_reset_of_those_that_ended(make):
    vector = make(3, AutoresetMode.DISABLED)
    vector.reset(seed=0)
    vector.step([BACK, 0, BACK])
    with pytest.raises(ResetNeeded, match="reset_mask"):
        vector.step([0, 0, 0])
    mask = np.array([True, False, False])
    _, infos = vector.reset(options={"reset_mask": mask, "subset": "full"})
    with pytest.raises(ResetNeeded, match="reset_mask"):
        vector.step([0, 0, 0])
    vector.reset(options={"reset_mask": np.array([False, False, True])})
    assert vector.call("recipe")[1].depth == 1
    for actions in ([0, 0, 0], [0, 0, 0]):
        _, _, terminated, _, infos = vector.step(actions)
    assert terminated.tolist() == [False, True, False]
    vector.reset(options={"reset_mask": terminated})
    *_, infos = vector.step([0, 0, 0])
    assert infos["scored"].tolist() == [True, False, True]
    assert infos["subset"][0] == -1
    assert (infos["pass_position"][0], infos["pass_position"][2]) == (-1, 1)
    assert infos["evaluation_cost"].tolist() == [120, 0, 40]


@pytest.mark.parametrize("mask", [[True], [1, 0], np.zeros(2, bool), "ab"])
def test_a_reset_mask_of_another_kind_is_refused(make, mask):
    vector = make(2, AutoresetMode.DISABLED)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask is 2 truth values, at least one of them true"):
        vector.reset(options={"reset_mask": mask})


def test_the_first_reset_begins_all(make):
    vector = make(2, AutoresetMode.DISABLED)
    with pytest.raises(ResetNeeded, match="reset all environments first"):
        vector.reset(options={"reset_mask": np.array([True, False])})


def test_a_round_is_scored_on_one_subset_and_shares_one_average(make, scorer):
    vector = make(4)
    _, infos = vector.reset(seed=2)
    generator = np.random.default_rng(2)
    schedule = SubsetSchedule(SUBSETS, gym.utils.seeding.np_random(2)[0])
    average = DynamicAverage(0.8, HORIZON)
    rounds = 0
    for _ in range(100):
        _, rewards, terminated, _, infos = vector.step(
            random_actions(infos["action_mask"], generator)
        )
        expected = np.where(terminated, -10.0, 0.0)
        recipes = vector.recipes()
        scored = np.flatnonzero(infos["scored"])
        for number, row in enumerate(scored):
            assert infos["subset"][row] == schedule.current
            assert infos["pass_position"][row] == schedule.position
            assert vector.single.recipe_of(infos["taken"][row]) == recipes[row]
            scores = scorer.score(recipes[row], subset=schedule.current)
            assert {task: infos["scores"][task][row] for task in scores} == scores
            raw = 100 * np.mean(list(scores.values()))
            assert infos["raw_reward"][row] == raw
            expected[row] = average.smooth(raw, schedule.position == 0 and number == 0)
        if len(scored):
            schedule.advance()
            rounds += 1
        np.testing.assert_array_equal(rewards, expected)
    assert rounds > 2 * SUBSETS


def outcomes(vector, seed, steps=40):
    _, infos = vector.reset(seed=seed)
    generator = np.random.default_rng(7)
    for _ in range(steps):
        *_, infos = step = vector.step(random_actions(infos["action_mask"], generator))
        yield step[1].tolist(), infos["subset"].tolist()


def test_a_seed_makes_rewards_repeat(make):
    vector = make(3)
    first = list(outcomes(vector, 7))
    assert list(outcomes(vector, 7)) == list(outcomes(make(3), 7)) == first
    assert list(outcomes(vector, 8)) != first


def test_of_a_list_of_seeds_the_first_decides(make):
    vector = make(3)
    first = list(outcomes(vector, 7))
    for seeds in ([7, 8, 9], [7, None, 7], np.array([7, 1, 2]), np.int64(7)):
        assert list(outcomes(vector, seeds)) == first
    assert list(outcomes(vector, [8, 7, 7])) != first


@pytest.mark.parametrize("seeds", [[], [1, 2], [1, 2, 3, 4]])
def test_a_list_has_a_seed_for_each_environment(make, seeds):
    with pytest.raises(ValueError, match="one for each of 3 environments"):
        make(3).reset(seed=seeds)


def test_call_and_get_attr_answer_for_each_environment(make, bank):
    vector = make(2, max_steps=8)
    vector.reset(seed=0)
    vector.step([0, SKIP])
    low = bank.candidates.recipe([(0, 0)])
    assert vector.call("recipe") == vector.get_attr("recipe") == (low, bank.candidates.recipe([]))
    assert [mask.tolist() for mask in vector.call("action_masks")] == [[1] * 7] * 2
    assert [map_.sum() for map_ in vector.get_attr("merging_map")] == [1, 0]
    assert vector.call("recipe_of", np.array([0, -1])) == (low, low)
    assert vector.get_attr("max_steps") == (8, 8)
    assert vector.get_attr("candidates") == (bank.candidates,) * 2
    with pytest.raises(AttributeError, match="none"):
        vector.get_attr("none")


def test_make_vec_makes_it_and_the_spec_remakes_it(suite_file):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.make_vec(
            "ModelMerge-v0", num_envs=2, suite=str(suite_file), subsets=SUBSETS, dar_scale=0.5
        )
        again = gym.make_vec(envs.spec)
    assert isinstance(envs, ModelMergeVectorEnv)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert again.num_envs == 2
    assert again.observation_space == envs.observation_space
    assert again.single.reward == envs.single.reward == DynamicAverage(0.5)
    observations, _ = envs.reset(seed=0)
    assert observations in envs.observation_space


@pytest.mark.parametrize("mode", ["SameStep", AutoresetMode.SAME_STEP])
def test_make_vec_takes_the_autoreset_mode(suite, mode):
    kwargs = {"suite": suite, "subsets": SUBSETS, "autoreset_mode": mode}
    envs = gym.make_vec("ModelMerge-v0", 1, "vector_entry_point", **kwargs)
    assert envs.autoreset_mode is envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_render_shows_every_environment(make):
    vector = make(2, render_mode="ansi")
    vector.reset(seed=0)
    vector.step(np.array([0, 1]))
    first, second = vector.render()
    assert first != second
    assert "average" in first


@pytest.mark.parametrize("actions", [[0], [0, 99], [0, -1], [0.5, 0.0]])
def test_actions_of_another_shape_or_outside_the_space_are_refused(make, actions):
    vector = make(2)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="2 integers from 0 to 6"):
        vector.step(actions)


def test_stepping_before_reset_is_refused(make):
    with pytest.raises(ResetNeeded):
        make(2).step(np.zeros(2, np.int64))


def test_bad_settings_are_refused(make):
    for count in (0, True, 2.0):
        with pytest.raises(ValueError, match="num_envs is a whole number of at least 1"):
            make(count)
    with pytest.raises(ValueError, match="scale"):
        gym.make_vec("ModelMerge-v0", 2, suite="none is loaded", dar_scale=2.0)
