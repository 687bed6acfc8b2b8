"""`ModelMerge-v0` on the tiny suite: two experts, three operators, three layers, two tasks."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

import merge_gym
from merge_gym import Evaluator, LayerBank, Recipe
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.rewards import DynamicAverage, Plain
from tests.envs.infos import check_info, check_infos

CANDIDATES, LAYERS, SUBSETS = 5, 3, 6
SKIP, BACK = 5, 6


@pytest.fixture(scope="module")
def make(bank):
    """Makes an environment on the tiny suite's candidates, with the plain reward."""
    return partial(ModelMergeEnv, bank.candidates, Evaluator(bank, SUBSETS))


@pytest.fixture
def env(make):
    return make()


def play(env, actions, seed=None, options=None):
    """Run one episode; returns what the last step returned."""
    env.reset(seed=seed, options=options)
    for action in actions:
        outcome = env.step(action)
    return outcome


def scored_info(env, actions=(0, 0, 0), **reset):
    return play(env, actions, **reset)[4]


def test_actions_are_the_candidates_then_skip_then_back(env):
    assert env.candidates.names == (
        "low",
        "high",
        "average",
        "ties(density=0.5)",
        "dare(density=0.5)",
    )
    assert env.action_space == gym.spaces.Discrete(CANDIDATES + 2)
    env.reset(seed=0)
    for action in (1, BACK, 4, SKIP, 2):
        env.step(action)
    assert env.episode.taken == [(0, 1), (0, 4), (2, 2)]


def test_observation_is_the_merging_map_row_by_row(env):
    env.reset(seed=0)
    observation, *_ = env.step(1)
    observation, *_ = env.step(3)
    assert observation.dtype == np.float32
    assert env.observation_space.shape == (CANDIDATES * LAYERS,)
    assert np.flatnonzero(observation).tolist() == [1 * LAYERS + 0, 3 * LAYERS + 1]
    np.testing.assert_array_equal(observation.reshape(CANDIDATES, LAYERS), env.merging_map)


def test_observation_space_goes_up_to_the_step_budget(make):
    assert make().observation_space.high.max() == 4 * LAYERS
    space = make(max_steps=7).observation_space
    assert (space.low.min(), space.high.min(), space.high.max()) == (0, 7, 7)


def test_observe_cursor_appends_a_one_hot_that_is_zero_at_the_end(make):
    env = make(observe_cursor=True)
    cells = CANDIDATES * LAYERS
    assert env.observation_space.shape == (cells + LAYERS,)
    assert env.observation_space.high[cells:].tolist() == [1, 1, 1]
    cursors = [env.reset(seed=0)[0][cells:].tolist()]
    cursors += [env.step(action)[0][cells:].tolist() for action in (SKIP, BACK, 0, 0, 0)]
    assert cursors == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_reward_is_zero_before_the_end_and_100_times_the_mean_score_at_it(env):
    env.reset(seed=0)
    for action in (0, 3):
        _, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated, info["scored"]) == (0.0, False, False, False)
    _, reward, terminated, truncated, info = env.step(1)
    assert (terminated, truncated) == (True, False)
    recipe = Recipe.from_actions([0, 3, 1], env.candidates)
    scores = env.scorer.score(recipe, subset=info["subset"])
    assert info["scores"] == scores
    assert reward == pytest.approx(100 * (scores["low"] + scores["high"]) / 2)


def test_info_at_the_end_says_all_about_the_episode(env):
    info = scored_info(env, (0, SKIP, 2), seed=0)
    assert env.recipe() == Recipe.from_actions([0, SKIP, 2], env.candidates)
    assert info["taken"].tolist() == [0, 2 * CANDIDATES + 2] + [-1] * 10
    assert info["raw_reward"] == pytest.approx(50 * sum(info["scores"].values()))
    assert (info["depth"], info["evaluation_cost"], info["pass_position"]) == (2, 2 * 10, 0)
    assert info["scored"]


def test_what_was_taken_spells_the_recipe_that_stacked_layers(env):
    actions = (4, 1, BACK, 1, BACK, BACK, 0, SKIP, 2)
    info = scored_info(env, actions, seed=0)
    taken = [0 * 5 + 4, 1 * 5 + 1, 1 * 5 + 1, 0 * 5 + 0, 2 * 5 + 2]
    assert info["taken"].tolist() == taken + [-1] * 7
    assert env.recipe_of(info["taken"]) == env.recipe()
    assert env.recipe() == Recipe.from_actions(actions, env.candidates)


def test_the_info_of_an_earlier_step_does_not_change(env):
    _, first = env.reset(seed=0)
    env.step(0)
    assert first["taken"].tolist() == [-1] * 12
    assert first["action_mask"][BACK] == 0


@pytest.mark.parametrize("settings", [{}, {"max_steps": 4, "max_depth": 2, "observe_cursor": True}])
def test_every_info_has_the_same_keys_and_types(make, settings):
    env = make(**settings)
    expected = (env.scorer.tasks, CANDIDATES, env.max_steps)
    kinds = set()
    for options in (None, {"subset": "full"}, {"subset": 1}):
        for actions in ([0, 3, 1], [SKIP] * 3, [BACK], [0, BACK, 0, 0]):
            _, info = env.reset(seed=0, options=options)
            check_info(info, *expected)
            for action in actions:
                *_, terminated, _, info = env.step(action)
                check_info(info, *expected)
                kinds.add((terminated, info["scored"]))
    assert kinds == {(False, False), (True, False), (True, True)}


def test_every_info_of_gymnasiums_vector_has_the_same_keys_and_types(make):
    envs = SyncVectorEnv([make] * 3)
    expected = (envs.envs[0].scorer.tasks, 3, CANDIDATES, 4 * LAYERS)
    _, infos = envs.reset(seed=0)
    check_infos(infos, *expected)
    for actions in ([0, 0, BACK], [0, 1, 2], [0, 2, 2], [0, 0, 0]):
        *_, infos = envs.step(np.array(actions))
        check_infos(infos, *expected)


@pytest.mark.parametrize(
    ("actions", "budgets"),
    [
        ([BACK], {}),
        ([0, BACK, 0, BACK], {"max_steps": 4}),
        ([0, 0, BACK, 0], {"max_depth": 2}),
    ],
    ids=["back at the first layer", "step budget", "depth budget"],
)
def test_an_invalid_episode_terminates_with_the_penalty(make, actions, budgets):
    env = make(invalid_reward=-3, **budgets)
    _, reward, terminated, truncated, info = play(env, actions, seed=0)
    assert (reward, terminated, truncated) == (-3.0, True, False)
    assert (info["raw_reward"], info["evaluation_cost"]) == (-3.0, 0)
    assert info["depth"] == env.episode.depth
    assert not info["scored"]
    assert (info["subset"], info["pass_position"]) == (-1, -1)
    assert set(info["scores"].values()) == {0.0}


def test_the_default_penalty_is_minus_ten_and_the_default_step_budget_four_times_l(env):
    assert play(env, [BACK], seed=0)[1] == -10.0
    assert not play(env, [0, BACK] * 5 + [0], seed=0)[2]
    assert play(env, [0, BACK] * 6, seed=0)[1:3] == (-10.0, True)


def test_the_empty_recipe_is_scored_as_it_is(env):
    _, reward, terminated, _, info = play(env, [SKIP] * 3, seed=0)
    assert (terminated, info["depth"], env.recipe().depth) == (True, 0, 0)
    assert reward == info["raw_reward"] >= 0
    assert info["scored"]


def test_masks_forbid_back_at_the_first_layer_and_taking_at_the_depth_budget(make):
    env = make(max_depth=1)
    _, info = env.reset(seed=0)
    assert info["action_mask"].dtype == np.int8
    assert info["action_mask"].tolist() == [1, 1, 1, 1, 1, 1, 0]
    info = env.step(0)[4]
    assert info["action_mask"].tolist() == [0, 0, 0, 0, 0, 1, 1]
    np.testing.assert_array_equal(env.action_masks(), info["action_mask"])
    assert env.action_space.sample(info["action_mask"]) in (SKIP, BACK)


def test_a_pass_uses_every_subset_once(env):
    env.reset(seed=0)
    for _ in range(2):
        infos = [scored_info(env) for _ in range(SUBSETS)]
        assert sorted(info["subset"] for info in infos) == list(range(SUBSETS))
        assert [info["pass_position"] for info in infos] == list(range(SUBSETS))


def test_invalid_episodes_do_not_consume_a_subset(make):
    with_penalties, without = make(), make()
    with_penalties.reset(seed=1)
    without.reset(seed=1)
    for _ in range(SUBSETS):
        play(with_penalties, [BACK])
        assert scored_info(with_penalties)["subset"] == scored_info(without)["subset"]


def test_a_seeded_reset_repeats_subset_order_and_rewards(env):
    def passes(seed):
        env.reset(seed=seed)
        return [scored_info(env, (0, 3, 1))["raw_reward"] for _ in range(2 * SUBSETS)], [
            scored_info(env)["subset"] for _ in range(2 * SUBSETS)
        ]

    first = passes(3)
    assert passes(3) == first
    assert passes(4)[1] != first[1]


def test_a_plain_reset_continues_the_pass(env):
    assert scored_info(env, seed=0)["pass_position"] == 0
    assert scored_info(env)["pass_position"] == 1


def test_the_first_reset_needs_no_seed(env):
    assert scored_info(env)["pass_position"] == 0


def test_options_full_scores_the_whole_search_split_and_uses_no_subset(env):
    env.reset(seed=0)
    info = scored_info(env, options={"subset": "full"})
    assert (info["subset"], info["pass_position"]) == (-1, -1)
    assert info["evaluation_cost"] == 2 * 60
    assert info["scores"] == env.scorer.score(env.recipe())
    assert scored_info(env)["pass_position"] == 0


@pytest.mark.parametrize("subset", [4, np.int64(4)])
def test_options_subset_scores_that_subset_and_uses_none(env, subset):
    env.reset(seed=0)
    info = scored_info(env, options={"subset": subset})
    assert (info["subset"], info["pass_position"]) == (4, -1)
    assert info["scores"] == env.scorer.score(env.recipe(), subset=4)
    assert scored_info(env)["pass_position"] == 0


@pytest.mark.parametrize(
    "options", [{"subset": "all"}, {"subset": 6}, {"subset": -1}, {"subset": 1.0}, {"subsets": 1}]
)
def test_bad_reset_options_are_refused_and_leave_the_episode(env, options):
    env.reset(seed=0)
    env.step(0)
    state = env.np_random.bit_generator.state
    with pytest.raises(ValueError, match=r"'full'.* a subset from 0 to 5, got"):
        env.reset(seed=5, options=options)
    assert env.episode.taken == [(0, 0)]
    assert env.np_random.bit_generator.state == state


def test_stepping_a_fork_leaves_the_original(env):
    env.reset(seed=0)
    env.step(0)
    fork = env.fork()
    fork.step(1)
    assert env.episode.taken == [(0, 0)]
    assert fork.episode.taken == [(0, 0), (1, 1)]
    assert fork.candidates is env.candidates
    assert fork.scorer is env.scorer


def test_a_fork_continued_alike_has_the_same_outcomes(env):
    """Also after the end of the pass, where both draw a new order."""
    env.reset(seed=0)
    env.step(0)
    fork = env.fork()
    outcomes = []
    for each in (env, fork):
        each.step(3)
        first = each.step(1)[4]
        outcomes.append([first["scores"]])
        outcomes[-1] += [scored_info(each, (0, 3, 1))["subset"] for _ in range(2 * SUBSETS)]
    assert outcomes[0] == outcomes[1]


def test_a_fork_remembers_rewards_for_itself(make):
    env = make(DynamicAverage(0.8, horizon=1))
    env.reset(seed=0)
    fork = env.fork()
    played = [play(fork, (0, 0, 0))[1] for _ in range(3)]
    assert env.reward == DynamicAverage(0.8, horizon=1)
    assert [play(env, (0, 0, 0))[1] for _ in range(3)] == played


def test_a_fork_before_the_first_reset_can_be_reset(env):
    assert scored_info(env.fork(), seed=0) is not None
    assert env.episode is None


@pytest.mark.parametrize("action", [-1, 7, 0.0, 1.5, "0", None, np.float32(1), np.int64(7)])
def test_an_action_outside_the_space_is_refused_and_changes_nothing(env, action):
    env.reset(seed=0)
    with pytest.raises(ValueError, match="an integer from 0 to 6, got"):
        env.step(action)
    assert env.episode.steps == 0


@pytest.mark.parametrize("action", [np.int64(1), np.int32(1), np.uint8(1), np.array(1)])
def test_numpy_integers_are_actions(env, action):
    env.reset(seed=0)
    env.step(action)
    assert env.episode.taken == [(0, 1)]


@pytest.mark.parametrize("what", ["step", "action_masks", "recipe", "merging_map", "render"])
def test_before_reset_every_look_at_the_episode_asks_for_one(make, what):
    env = make(render_mode="ansi")
    with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
        getattr(env, what)(0) if what == "step" else getattr(env, what)()


@pytest.mark.parametrize("actions", [[0, 0, 0], [BACK]], ids=["scored", "invalid"])
def test_a_step_after_the_end_asks_for_a_reset(env, actions):
    play(env, actions, seed=0)
    with pytest.raises(ResetNeeded, match=r"ended: call reset\(\)"):
        env.step(0)


def test_ansi_rendering_returns_the_map_as_text(make):
    env = make(render_mode="ansi")
    env.reset(seed=0)
    env.step(2)
    lines = env.render().splitlines()
    assert len(lines) == 2 + CANDIDATES
    assert lines[4].split() == ["average", "1", "·", "·"]


def test_rgb_array_rendering_returns_a_picture_that_changes_with_the_map(make):
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert (before.dtype, before.ndim, before.shape[2]) == (np.uint8, 3, 3)
    env.step(2)
    assert (env.render() != before).any()


def test_human_rendering_prints_the_map_at_the_start_and_at_every_step(make, capsys):
    env = make(render_mode="human")
    env.reset(seed=0)
    assert "average           ·" in capsys.readouterr().out
    env.step(2)
    assert "average           1" in capsys.readouterr().out
    assert env.render() is None


@settings(max_examples=30, deadline=None)
@given(actions=st.lists(st.integers(0, BACK), min_size=1, max_size=14))
def test_any_actions_give_observations_in_the_space_and_a_recipe_that_replays(shared_env, actions):
    env = shared_env
    observation, _ = env.reset(options={"subset": "full"})
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(observation)
        assert not truncated
        if terminated:
            break
        assert reward == 0
    if env.episode.complete:
        replayed = Recipe.from_actions(actions[: env.episode.steps], env.candidates)
        assert replayed == env.recipe() == env.recipe_of(info["taken"])
        assert env.scorer.score(replayed) == info["scores"]
    elif terminated:
        assert reward == -10


@pytest.fixture(scope="module")
def shared_env(make):
    return make()


def test_the_public_name_is_the_class():
    assert merge_gym.ModelMergeEnv is ModelMergeEnv


def test_an_env_takes_any_bank_and_scorer(suite, counting):
    """Of a scorer only `evaluate`, `tasks` and `subset_count` are used, once an episode."""
    env = ModelMergeEnv(LayerBank(suite).candidates, counting)
    assert isinstance(env.reward, Plain)
    info = scored_info(env, seed=0)
    (request,) = counting.requests
    assert (request.recipe, request.subsets) == (env.recipe(), (info["subset"],))
