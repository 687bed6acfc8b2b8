"""What `gym.make` makes of its settings, and what survives a spec, JSON, and pickle."""

import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import env_checker as gymnasium_checker

from merge_gym import Evaluator
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.evaluation.scorer import Request
from merge_gym.models.storage import on_disk
from merge_gym.rewards import DynamicAverage, Plain
from tests.tiny import OPERATORS

CANDIDATES, LAYERS, SUBSETS = 5, 3, 6
SKIP, BACK = 5, 6


def play(env, actions, seed=None, options=None):
    """Run one episode; returns what the last step returned."""
    env.reset(seed=seed, options=options)
    for action in actions:
        outcome = env.step(action)
    return outcome


def test_settings_of_bank_and_evaluator_are_passed_on(make_env):
    evaluation = {"dtype": "bfloat16", "placement": "host", "bank_bytes": 2**20}
    scorer = make_env(subsets=2, evaluation=evaluation).unwrapped.scorer
    assert (scorer.dtype, scorer.subset_count) == (torch.bfloat16, 2)
    assert scorer.bank.bank_bytes == 2**20
    with pytest.raises(TypeError, match="cache_size"):
        make_env(subsets=2, evaluation={"cache_size": 3})


def test_weights_are_mapped_where_that_is_asked_for(suite_file):
    env = gym.make("ModelMerge-v0", suite=str(suite_file), subsets=2, mapped=True)
    assert env.unwrapped.scorer.bank.suite.allocate is on_disk


NO_SUITE = "no suite is loaded before this check"


@pytest.mark.parametrize("setting", ["max_steps", "max_depth"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "7", True])
def test_a_budget_is_a_whole_number_of_at_least_one(setting, value):
    with pytest.raises(ValueError, match=f"{setting} is a whole number of at least 1.* got"):
        gym.make("ModelMerge-v0", suite=NO_SUITE, **{setting: value})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"render_mode": "rgb"}, r"'ansi', 'rgb_array', 'human'\], got 'rgb'"),
        ({"observe_cursor": 1}, "observe_cursor is true or false, got 1"),
        ({"invalid_reward": float("nan")}, "invalid_reward is a finite number, got nan"),
        ({"invalid_reward": "-10"}, "invalid_reward is a finite number, got '-10'"),
        ({"dar_scale": 1.5}, "got 1.5"),
        ({"dar_scale": -1}, "got -1"),
        ({"dar_horizon": 0}, "got 0"),
        ({"reward": "averge"}, "unknown reward 'averge'"),
        ({"reward": {"name": "dynamic_average", "scale": 2}}, "got 2"),
        ({"reward": {"name": "plain", "scale": 1}}, "reward 'plain'.*scale"),
        ({"observe_mask": "mask"}, r"observe_mask is true, false or the names .* got 'mask'"),
        ({"observe_mask": ["a", "a"]}, r"got \['a', 'a'\]"),
        ({"subsets": 0}, "subsets is a whole number of at least 1, got 0"),
        ({"subsets": True}, "subsets is a whole number of at least 1, got True"),
        ({"mapped": 1}, "mapped is true, false or None, got 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render")
def test_settings_are_checked_before_the_suite_is_loaded(setting, words):
    with pytest.raises(ValueError, match=words):
        gym.make("ModelMerge-v0", suite=NO_SUITE, **setting)


def test_more_subsets_than_examples_are_refused(make_env):
    with pytest.raises(ValueError, match=r"between 1 and the 60 examples .* got 61"):
        make_env(subsets=61)


def test_an_operator_setting_out_of_range_is_refused(make_env):
    with pytest.raises(ValueError, match=r"'ties'.*density.*from 0 to 1, got 1\.5"):
        make_env(operators=[{"name": "ties", "density": 1.5}])


@pytest.fixture
def made(suite_file):
    return gym.make("ModelMerge-v0", suite=str(suite_file), subsets=SUBSETS, operators=OPERATORS)


def outcomes_of(env, episodes=4):
    env.reset(seed=0)
    return [play(env, (3, 3, 3))[1] for _ in range(episodes)]


def test_the_registered_id_smooths_rewards_and_dar_scale_zero_does_not(make_env):
    smoothed, plain = (
        make_env(subsets=SUBSETS, dar_horizon=1, **more) for more in ({}, {"dar_scale": 0})
    )
    rewards = outcomes_of(plain)
    expected = [rewards[0]]
    for reward in rewards[1:]:
        expected.append(0.8 * expected[-1] + 0.2 * reward)
    assert outcomes_of(smoothed) == pytest.approx(expected)
    assert outcomes_of(smoothed) == pytest.approx(expected)  # the seed cleared the memory
    assert len(set(rewards)) > 1


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("plain", Plain()),
        ({"name": "dynamic_average", "scale": 0.5}, DynamicAverage(0.5)),
        (DynamicAverage(0.1, 3), DynamicAverage(0.1, 3)),
        (None, DynamicAverage(0.8, 20)),
    ],
)
def test_a_reward_is_named_described_or_given(make_env, reward, expected):
    assert make_env(reward=reward).unwrapped.reward == expected


@pytest.mark.parametrize(
    "through",
    [lambda spec: EnvSpec.from_json(spec.to_json()), lambda spec: pickle.loads(pickle.dumps(spec))],
    ids=["json", "pickle"],
)
def test_an_env_made_from_its_spec_is_equal(made, through):
    again = gym.make(through(made.spec))
    assert str(again) == str(made)
    assert again.unwrapped.candidates.names == made.unwrapped.candidates.names
    assert again.observation_space == made.observation_space
    assert outcomes_of(again) == outcomes_of(made)


def test_a_spec_with_every_setting_survives_json(suite_file):
    settings = {
        "suite": str(suite_file),
        "operators": ["average"],
        "subsets": 3,
        "evaluation": {"dtype": "float32"},
        "reward": {"name": "dynamic_average", "horizon": 5},
        "observe_cursor": True,
        "max_steps": 7,
        "max_depth": 4,
        "invalid_reward": -1,
        "render_mode": "ansi",
        "observe_mask": ["obs", "mask"],
    }
    env = gym.make("ModelMerge-v0", **settings)
    again = gym.make(EnvSpec.from_json(env.spec.to_json())).unwrapped
    assert json.loads(env.spec.to_json())["kwargs"] == settings
    assert again.reward == DynamicAverage(0.8, 5)
    assert (again.max_steps, again.start.max_depth, again.invalid_reward) == (7, 4, -1)
    assert (again.observe_cursor, again.render_mode, again.subsets) == (True, "ansi", 3)
    assert list(again.observation_space) == ["mask", "obs"]


def test_a_setting_beside_a_spec_replaces_its_own(made):
    smoothed, plain = gym.make(made.spec, dar_horizon=1), gym.make(made.spec, dar_scale=0)
    assert made.unwrapped.reward == DynamicAverage(0.8, 700)
    assert smoothed.unwrapped.reward == DynamicAverage(0.8, 1)
    plain.reset(seed=0)
    for _ in range(SUBSETS):
        _, reward, *_, info = play(plain, (3, 0, 3))
        assert reward == info["raw_reward"]
    assert plain.spec.kwargs["dar_scale"] == 0


@pytest.mark.parametrize("name", ["ModelMerge-v0", "merge_gym:ModelMerge-v0"])
def test_without_arguments_it_is_the_shipped_suite(name, monkeypatch, suite):
    """The shipped suite itself is opened by the tests of the suites; here its name is enough."""
    opened = []
    monkeypatch.setattr(
        "merge_gym.suites.load_suite", lambda *arguments: opened.append(arguments) or suite
    )
    env = gym.make(name)
    assert opened == [("fashion-halves-0", None)]
    assert isinstance(env.unwrapped, ModelMergeEnv)
    assert (env.unwrapped.subsets, env.unwrapped.reward) == (10, DynamicAverage(0.8, 700))
    assert env.spec.kwargs == {}


def test_a_pickled_env_goes_on_as_the_original_does(made):
    """In the middle of an episode, the pass, and the average; the candidates' weights go along."""
    made.reset(seed=0)
    play(made, (0, 3, 1))
    made.reset()
    made.step(4)
    copy = pickle.loads(pickle.dumps(made))
    assert copy.unwrapped.candidates is not made.unwrapped.candidates
    for env in (copy, made):
        env.said = [env.step(action) for action in (BACK, 2, 2, 3)]
        env.said += [play(env, (3, 1, 3)) for _ in range(2 * SUBSETS)]
    for one, other in zip(copy.said, made.said, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:4] == other[1:4]
        assert {**one[4], "action_mask": 0, "taken": 0} == {
            **other[4],
            "action_mask": 0,
            "taken": 0,
        }
        np.testing.assert_array_equal(one[4]["taken"], other[4]["taken"])
    assert len({step[1] for step in made.said}) > 3


def test_a_pickled_evaluator_remembers_nothing_and_scores_alike(bank):
    evaluator = Evaluator(bank, 4, cache_bytes=2**26, placement="host", fused=False)
    recipes = [bank.uniform(source) for source in bank.candidates.sources]
    before = evaluator.score(recipes)
    pickled = pickle.dumps(evaluator)
    assert len(pickled) < 2**22
    copy = pickle.loads(pickled)
    assert copy.counts.asked == 0
    assert (copy.subset_count, copy.fused) == (4, False)
    assert copy.score(recipes) == before


@pytest.mark.parametrize("more", [False, True])
def test_gymnasiums_checker_has_nothing_to_say(suite_file, more):
    env = gym.make("ModelMerge-v0", suite=str(suite_file), observe_cursor=more, observe_mask=more)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_checker.check_env(env.unwrapped)


@pytest.mark.parametrize("wrapped", [False, True])
def test_stable_baselines_checker_has_nothing_to_say(made, wrapped):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(made if wrapped else made.unwrapped)


def test_stepping_through_gymnasiums_wrappers_warns_of_nothing(made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes_of(made)


@pytest.mark.parametrize("name", ["ModelMerge-v0", "ModelEdit-v0"])
def test_gymnasium_collects_pictures_of_a_step_or_of_many(name):
    env = gym.make(name, table="fashion-halves-0", render_mode="rgb_array_list")
    env.reset(seed=0)
    env.step(0)
    pictures = env.render()
    assert [picture.ndim for picture in pictures] == [3, 3]
    assert env.render() == []


def test_an_id_of_the_table_needs_no_settings_and_is_solved_at_the_best_uniform_merge():
    spec = gym.spec("ModelMergeTable-v0")
    table = gym.make(spec).unwrapped.scorer
    pairs = [[(layer, source) for layer in range(6)] for source in range(len(table.candidates))]
    uniform = [table.evaluate([Request(table.candidates.recipe(each))])[0].mean for each in pairs]
    assert max(uniform) == pytest.approx(spec.reward_threshold / 100)
    assert spec.reward_threshold / 100 < table.optimum()[1]
    assert spec.max_episode_steps is None  # an episode ends by itself and is never cut off


@pytest.fixture
def threads():
    """Two threads of torch that have been used, as in any program that computed something."""
    torch.set_num_threads(2)
    torch.ones(512, 512) @ torch.ones(512, 512)
    yield
    torch.set_num_threads(1)


def test_async_workers_compute_after_torch_used_threads_in_their_parent(threads, suite_file):
    envs = gym.make_vec("ModelMerge-v0", 2, "async", suite=str(suite_file), subsets=SUBSETS)
    envs.reset_async(seed=0)
    envs.reset_wait(timeout=60)
    for _ in range(LAYERS):
        envs.step_async(np.array([2, 3]))
        _, rewards, terminated, *_ = envs.step_wait(timeout=60)
    assert terminated.all()
    assert (rewards > 0).all()
    envs.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_vector_of_envs_steps_like_single_ones(suite_file, mode):
    envs = gym.make_vec(
        "ModelMerge-v0", 2, mode, suite=str(suite_file), subsets=SUBSETS, dar_scale=0
    )
    observations, infos = envs.reset(seed=0)
    assert observations.shape == (2, CANDIDATES * LAYERS)
    assert infos["action_mask"].shape == (2, CANDIDATES + 2)
    for actions in ([0, 0], [3, 3], [1, BACK]):
        observations, rewards, terminated, _, _ = envs.step(np.array(actions))
    envs.close()
    single = gym.make("ModelMerge-v0", suite=str(suite_file), subsets=SUBSETS, dar_scale=0)
    observation, reward, *_ = play(single, (0, 3, 1), seed=0)
    np.testing.assert_array_equal(observations[0], observation)
    assert rewards[0] == reward
    assert terminated.tolist() == [True, False]
