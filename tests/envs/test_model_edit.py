"""`ModelEdit-v0` against its races run again in plain Python, on tables and on a real scorer."""

import copy
import json
import math
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils import env_checker
from gymnasium.vector import AutoresetMode

from merge_gym import Evaluator, LayerBank, Request
from merge_gym.envs.making import make_edit_env, make_edit_vector_env
from merge_gym.envs.model_edit import ModelEditEnv, ModelEditVectorEnv
from tests.envs.infos import assert_same_infos
from tests.envs.random_tables import EXAMPLES, random_table

CANDIDATES, LAYERS, SUBSETS, WHOLE = 3, 3, 5, sum(EXAMPLES.values())
CHOICES = CANDIDATES + 2
SKIP, STACK = CANDIDATES, CANDIDATES + 1
KINDS = {
    "action_mask": np.int8,
    "taken": np.int64,
    "depth": int,
    "scores": dict,
    "score": float,
    "won": bool,
    "subsets": int,
    "evaluation_cost": int,
}


@pytest.fixture(scope="module")
def table():
    return random_table(CANDIDATES, LAYERS, SUBSETS)


@pytest.fixture
def make(table):
    return lambda **settings: ModelEditEnv(table.candidates, table, stacking=False, **settings)


def allowed(info, generator):
    return int(generator.choice(np.flatnonzero(info["action_mask"])))


def points(table, recipe, subset=None):
    return (
        100
        * table.evaluate([Request(recipe, subsets=None if subset is None else (subset,))])[0].mean
    )


def edited(recipe, action, candidates):
    """The recipe with the layer replaced or skipped, spelt again from nothing."""
    layer, choice = divmod(action, CHOICES)
    [(_, layers)] = recipe.segments
    taken = {one.index: candidates.sources.index(one.source) for one in layers} | {layer: choice}
    return candidates.recipe(sorted(pair for pair in taken.items() if pair[1] != SKIP))


def raced(table, challenger, incumbent, order, spread, z):
    """The mean difference, on how many subsets, and the cost; `spread` learns from the race."""
    differences, cost = [], 0
    for subset in order:
        differences.append(points(table, challenger, subset) - points(table, incumbent, subset))
        cost += table.cost(Request(challenger, subsets=(subset,)))
        met, mean = len(differences), math.fsum(differences) / len(differences)
        sd = math.sqrt(spread[0] / spread[1])
        if met < SUBSETS and mean + z * sd * math.sqrt(1 / met - 1 / SUBSETS) < 0:
            break
    spread[0] += sum((one - mean) ** 2 for one in differences)
    spread[1] += met - 1
    return mean, met, cost


@pytest.mark.parametrize("z", [0.0, 0.5, None])
def test_rewards_incumbents_masks_and_costs_are_those_of_the_races(make, table, z):
    env, generator, wins = make(budget=30.0, z=z, start="random"), np.random.default_rng(1), 0
    _, info = env.reset(seed=3)
    incumbent, spent, spread = env.recipe(), WHOLE, [4 * 3.0**2, 4.0]
    tried = set()
    for _ in range(40):
        assert info["score"] == pytest.approx(points(table, incumbent))
        assert info["scores"] == pytest.approx(table.score(incumbent))
        changes = [a for a in range(env.action_space.n) if a % CHOICES != STACK]
        changes = [a for a in changes if edited(incumbent, a, table.candidates) != incumbent]
        assert set(np.flatnonzero(info["action_mask"])) == set(changes) - tried
        action = allowed(info, generator)
        challenger = edited(incumbent, action, table.candidates)
        order = copy.deepcopy(env.np_random).permuted(np.arange(SUBSETS)[None], axis=1)[0]
        limit = math.inf if z is None else z
        mean, met, cost = raced(table, challenger, incumbent, order, spread, limit)
        spent += cost
        observation, reward, terminated, truncated, info = env.step(action)
        assert (info["subsets"], info["evaluation_cost"]) == (met, spent)
        assert reward == pytest.approx(mean)
        assert info["won"] == (met == SUBSETS and mean > 0)
        tried.add(action)
        if info["won"]:
            layer = action // CHOICES
            before = list(range(layer * CHOICES, layer * CHOICES + STACK))
            tried = {a for a in before if edited(challenger, a, table.candidates) == incumbent}
            incumbent, wins = challenger, wins + 1
        assert env.recipe() == incumbent
        assert not truncated
        np.testing.assert_array_equal(observation, env.merging_map.ravel())
        if terminated:
            break
    assert terminated
    assert not info["action_mask"].any()
    assert wins > 1


def test_it_begins_at_the_best_uniform_merge_and_pays_for_it_every_time(make, table):
    uniform = [table.candidates.repeated(source) for source in table.candidates.sources]
    best = max(uniform, key=lambda recipe: points(table, recipe))
    env = make(z=None)
    for _ in range(2):
        _, info = env.reset(seed=0)
        assert (env.recipe(), info["evaluation_cost"]) == (best, CANDIDATES * WHOLE)
    _, info = make(z=0.5).reset(seed=0)
    assert WHOLE < info["evaluation_cost"] <= CANDIDATES * WHOLE


def test_an_episode_never_spends_more_than_its_budget(make):
    env, generator = make(budget=4.0, z=1.0), np.random.default_rng(0)
    for seed in range(5):
        _, info = env.reset(seed=seed)
        ended = False
        while not ended:
            _, _, ended, _, info = env.step(allowed(info, generator))
        assert 4 * WHOLE - WHOLE / SUBSETS - 1 < info["evaluation_cost"] <= 4 * WHOLE
        assert info["subsets"] <= SUBSETS
    with pytest.raises(ResetNeeded, match="has ended"):
        env.step(0)


def test_what_the_mask_forbids_scores_nothing_and_ends_at_last(make):
    env = make(budget=4.0, invalid_reward=-3.0)
    _, first = env.reset(seed=0)
    forbidden = int(np.flatnonzero(first["action_mask"] == 0)[0])
    steps = [env.step(forbidden) for _ in range(8)]
    assert {reward for _, reward, *_ in steps} == {-3.0}
    assert {info["evaluation_cost"] for *_, info in steps} == {first["evaluation_cost"]}
    assert env.step(STACK)[1] == -3.0  # a table knows no stacked layers
    while not env.step(forbidden)[2]:
        pass
    assert env.incumbents.steps[0] == env.incumbents.most


def test_what_edits_gave_and_the_budget_left_are_observed(make):
    env = make(budget=20.0, observe_results=True)
    observation, info = env.reset(seed=0)
    cells = CANDIDATES * LAYERS
    assert not observation[cells:-1].any()
    action = allowed(info, np.random.default_rng(0))
    observation, reward, *_, info = env.step(action)
    assert observation[cells + action] == np.float32(reward) != 0
    assert observation[-1] == np.float32(1 - info["evaluation_cost"] / (20 * WHOLE))
    assert np.count_nonzero(observation[cells:-1]) == 1


@pytest.fixture(scope="module")
def real(suite):
    return Evaluator(LayerBank(suite, ["average"]), subsets=4)


def test_layers_are_stacked_and_scored_by_a_real_scorer(real):
    env = ModelEditEnv(real.bank.candidates, real, budget=60.0, z=None)
    _, info = env.reset(seed=0)
    before, choices = env.recipe(), len(real.bank.candidates) + 2
    stack = 1 * choices + choices - 1
    assert info["action_mask"][stack] == 1
    _, reward, *_, info = env.step(stack)
    [(_, layers)] = before.segments
    source = real.bank.candidates.sources.index(layers[0].source)
    stacked = real.bank.candidates.recipe([(0, source), (1, source), (1, source), (2, source)])
    by_subset = [
        real.score(stacked, subset=s)[task] - real.score(before, subset=s)[task]
        for s in range(4)
        for task in real.tasks
    ]
    assert reward == pytest.approx(100 * np.mean(by_subset))
    assert info["won"] == (reward > 0)
    generator = np.random.default_rng(0)
    while not (info["won"] and info["depth"] > 3):  # until a stacked layer stands there
        _, _, ended, _, info = env.step(allowed(info, generator))
        if ended:
            _, info = env.reset()
    assert info["scores"] == real.score(env.recipe())
    pairs = [divmod(number, choices - 2) for number in info["taken"] if number >= 0]
    assert real.bank.candidates.recipe(pairs) == env.recipe()
    assert info["depth"] == env.recipe().depth == env.merging_map.sum()
    assert env.merging_map.max() == 2


def test_infos_have_the_same_keys_and_types_at_every_step(make):
    env = make(budget=4.0)
    info, generator, ended = env.reset(seed=0)[1], np.random.default_rng(0), False
    while not ended:
        assert list(info) == list(KINDS)
        arrays = {key: info[key].dtype for key in ("action_mask", "taken")}
        assert {key: type(value) for key, value in info.items()} | arrays == KINDS
        assert info["action_mask"].shape == (LAYERS * CHOICES,)
        assert info["taken"].shape == (2 * LAYERS,)
        assert all(type(score) is float for score in info["scores"].values())
        _, _, ended, _, info = env.step(allowed(info, generator))


def outcomes(env, seed, steps=60):
    """What a masked random policy sees."""
    generator = np.random.default_rng(0)
    _, info = env.reset(seed=seed)
    seen = []
    for _ in range(steps):
        seen.append(env.step(allowed(info, generator)))
        info = env.reset()[1] if seen[-1][2] else seen[-1][4]
    return seen


def test_a_vector_of_one_equals_the_single_environment(make):
    single, generator = make(budget=5.0, observe_results=True), np.random.default_rng(0)
    envs = ModelEditVectorEnv(make(budget=5.0, observe_results=True), 1, AutoresetMode.SAME_STEP)
    (observation, info), (observations, infos) = single.reset(seed=4), envs.reset(seed=4)
    for _ in range(80):
        np.testing.assert_array_equal(observations[0], observation)
        assert infos["score"][0] == info["score"]
        action = allowed(info, generator)
        _, reward, ended, _, info = last = single.step(action)
        observation = last[0]
        observations, rewards, terminated, _, infos = envs.step(np.array([action]))
        assert (rewards[0], terminated[0]) == (reward, ended)
        if ended:
            np.testing.assert_array_equal(infos["final_obs"][0], observation)
            assert infos["final_info"]["evaluation_cost"][0] == info["evaluation_cost"]
            observation, info = single.reset()


def test_rows_of_a_vector_follow_the_rules_side_by_side(make, table):
    envs = ModelEditVectorEnv(make(budget=6.0, start="random"), 7)
    _, infos = envs.reset(seed=0)
    generator, ends = np.random.default_rng(0), 0
    for _ in range(60):
        before = envs.recipes()
        masks = infos["action_mask"]
        actions = (generator.random(masks.shape) * masks).argmax(axis=1)
        observations, rewards, ended, truncated, infos = envs.step(actions)
        assert set(infos) == {*KINDS, *(f"_{key}" for key in KINDS)}
        for row, recipe in enumerate(envs.recipes()):
            assert infos["score"][row] == pytest.approx(points(table, recipe))
            if infos["won"][row]:
                challenger = edited(before[row], int(actions[row]), table.candidates)
                assert recipe == challenger
                gain = points(table, recipe) - points(table, before[row])
                assert rewards[row] == pytest.approx(gain, abs=2)  # subsets of unequal size
        np.testing.assert_array_equal(observations, envs.incumbents.maps.reshape(7, -1))
        assert not truncated.any()
        ends += ended.sum()
    assert ends > 7
    assert infos["evaluation_cost"].dtype == np.int64
    assert envs.call("recipe") == envs.recipes()


def test_seeds_make_everything_reproducible_and_pickles_go_on(make):
    env = make(budget=12.0)
    first, again = outcomes(env, 1), outcomes(env, 1)
    assert [step[1] for step in first] == [step[1] for step in again]
    assert [step[1] for step in first] != [step[1] for step in outcomes(env, 2)]
    _, info = env.reset(seed=5)
    env.step(allowed(info, np.random.default_rng(0)))
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(10):
        action = int(np.flatnonzero(env.action_masks())[0])
        assert env.step(action)[1] == twin.step(action)[1]


@pytest.fixture
def made(suite_file):
    return gym.make("ModelEdit-v0", suite=str(suite_file), subsets=4, operators=["average"])


def test_the_checkers_have_nothing_to_say(made):
    stable = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env_checker.check_env(made.unwrapped)
        stable.check_env(made)


def test_a_spec_with_every_setting_survives_json(suite_file):
    settings = {
        "suite": str(suite_file),
        "operators": ["average"],
        "subsets": 3,
        "budget": 7,
        "z": None,
        "start": "random",
        "observe_results": True,
        "invalid_reward": -1,
        "render_mode": "ansi",
    }
    env = gym.make("ModelEdit-v0", **settings)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert json.loads(env.spec.to_json())["kwargs"] == settings
    assert again.observation_space == env.observation_space
    env.reset(seed=0), again.reset(seed=0)
    assert env.render() == again.render()
    assert len(env.render().splitlines()) == 1 + 3
    envs = gym.make_vec("ModelEdit-v0", num_envs=2, **settings)
    assert isinstance(envs.unwrapped, ModelEditVectorEnv)
    envs.reset(seed=0)
    assert len(envs.render()) == 2


def test_without_arguments_it_is_the_shipped_suite(monkeypatch, suite):
    opened = []
    monkeypatch.setattr(
        "merge_gym.suites.load_suite", lambda *arguments: opened.append(arguments) or suite
    )
    assert isinstance(gym.make("ModelEdit-v0").unwrapped, ModelEditEnv)
    assert opened == [("fashion-halves-0", None)]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"budget": 0.5}, "budget is a number of full evaluations of at least 1, got 0.5"),
        ({"budget": math.inf}, "got inf"),
        ({"budget": True}, "got True"),
        ({"z": -1}, "z is a number of at least 0, or None, got -1"),
        ({"start": "best"}, "start is one of uniform, random, got 'best'"),
        ({"observe_results": 1}, "observe_results is true or false, got 1"),
        ({"invalid_reward": math.nan}, "invalid_reward is a finite number, got nan"),
        ({"render_mode": "rgb"}, "got 'rgb'"),
    ],
)
def test_settings_are_checked_before_anything_is_opened(setting, words):
    with pytest.raises(ValueError, match=words):
        make_edit_env(suite="no suite is loaded before this check", **setting)
    with pytest.raises(ValueError, match=words):
        make_edit_vector_env(2, suite="no suite is loaded before this check", **setting)


def test_what_cannot_be_done_is_one_line(make):
    env = make(budget=2.0, z=None)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
    with pytest.raises(ValueError, match=r"costs 279 .* of 186 .* at least 4\.0 full"):
        env.reset(seed=0)
    env = make()
    with pytest.raises(ValueError, match=r"reset takes no options here, got \{'subset': 1\}"):
        env.reset(options={"subset": 1})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="an action is an integer from 0 to 14, got 15"):
        env.step(15)
    envs = ModelEditVectorEnv(env, 2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="actions are 2 integers from 0 to 14"):
        envs.step(np.array([0, 15]))
    assert_same_infos(envs.reset(seed=1)[1], envs.reset(seed=1)[1])
