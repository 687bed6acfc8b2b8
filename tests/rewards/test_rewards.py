"""The dynamic average reward, by numbers worked out by hand from eq. 10."""

import json

import gymnasium as gym
import numpy as np
import pytest

from merge_gym import rewards
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.rewards import DynamicAverage, DynamicAverageReward, Plain


class Scripted(gym.Env):
    """Episodes of one step that pay a written list of (reward, position in the pass)."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(1)

    def __init__(self, *outcomes):
        self.outcomes = iter(outcomes)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        reward, position = next(self.outcomes)
        info = {
            "raw_reward": reward,
            "scored": position != "invalid",
            "pass_position": -1 if position in ("invalid", None) else position,
        }
        return np.zeros(1, np.float32), reward, True, False, info


def rewards_of(env, episodes):
    rewards = []
    for _ in range(episodes):
        env.reset()
        rewards.append(env.step(0)[1])
    return rewards


def test_weight_grows_with_the_episodes_scored_so_far():
    """scale 0.8, horizon 4: w = 0 (first of a pass), 0.2, 0.4, 0.6, then 0.8 for good."""
    average = DynamicAverage(scale=0.8, horizon=4)
    assert average.smooth(50, True) == pytest.approx(50)
    assert average.smooth(60, False) == pytest.approx(0.2 * 50 + 0.8 * 60)
    assert average.smooth(40, False) == pytest.approx(0.4 * 58 + 0.6 * 40)
    assert average.smooth(80, False) == pytest.approx(0.6 * 47.2 + 0.4 * 80)
    assert average.smooth(10, False) == pytest.approx(0.8 * 60.32 + 0.2 * 10)
    assert average.smooth(10, False) == pytest.approx(0.8 * 50.256 + 0.2 * 10)


def test_previous_reward_is_the_smoothed_one():
    average = DynamicAverage(scale=1.0, horizon=2)
    average.smooth(0.0, True)
    assert average.smooth(10.0, False) == pytest.approx(0.5 * 0 + 0.5 * 10)
    assert average.smooth(90.0, False) == pytest.approx(5.0)


def test_first_episode_of_each_pass_is_paid_as_it_is():
    env = DynamicAverageReward(Scripted((50, 0), (60, 1), (40, 0), (80, 1)), scale=0.8, horizon=4)
    assert rewards_of(env, 4) == pytest.approx([50, 58, 40, 0.6 * 40 + 0.4 * 80])


def test_penalties_neither_enter_nor_advance_the_average():
    env = DynamicAverageReward(
        Scripted((50, 0), (-10, "invalid"), (60, 1), (-10, "invalid")), scale=0.8, horizon=4
    )
    assert rewards_of(env, 4) == pytest.approx([50, -10, 58, -10])
    assert env.average.episodes == 2


def test_episodes_on_an_asked_subset_neither_enter_nor_advance_the_average():
    env = DynamicAverageReward(Scripted((50, 0), (99, None), (60, 1)), scale=0.8, horizon=4)
    assert rewards_of(env, 3) == pytest.approx([50, 99, 58])
    assert env.average.episodes == 2


def test_scale_zero_leaves_rewards_as_they_are():
    env = DynamicAverageReward(Scripted((50, 0), (60, 1), (40, 2)), scale=0.0, horizon=1)
    assert rewards_of(env, 3) == [50, 60, 40]


def test_a_seeded_reset_clears_the_average_and_a_plain_one_does_not():
    env = DynamicAverageReward(Scripted((50, 0), (60, 1), (60, 1)), scale=0.8, horizon=4)
    rewards_of(env, 2)
    assert env.average.episodes == 2
    env.reset(seed=0)
    assert env.average.state() == {"scale": 0.8, "horizon": 4, "episodes": 0, "previous": 0.0}


def test_the_raw_reward_stays_in_info():
    env = DynamicAverageReward(Scripted((50, 0), (60, 1)), scale=0.8, horizon=1)
    rewards_of(env, 1)
    env.reset()
    _, reward, _, _, info = env.step(0)
    assert (reward, info["raw_reward"]) == (pytest.approx(52), 60)


SCORES = {"a": 0.2, "b": 0.6}


@pytest.mark.parametrize("name", rewards.available())
def test_every_reward_is_told_scores_and_can_be_put_back_where_it_was(name):
    """Whatever it remembers: a copy through plain values, and one that forgot, go on as it does."""
    positions = (0, 1, None, 2, 0, 1)
    reward = rewards.make(name)
    first = [reward(SCORES, position) for position in positions]
    again = rewards.make(name)
    again.set_state(json.loads(json.dumps(reward.state())))
    other = {"a": 1.0, "b": 0.0}
    assert [again(other, position) for position in positions] == [
        reward(other, position) for position in positions
    ]
    reward.clear()
    assert [reward(SCORES, position) for position in positions] == first


def test_the_plain_reward_is_100_times_the_mean():
    assert Plain()(SCORES, 0) == Plain()(SCORES, None) == pytest.approx(40)


def test_the_dynamic_average_smooths_the_mean_of_those_in_a_pass():
    reward = DynamicAverage(scale=0.8, horizon=4)
    assert reward({"a": 0.4, "b": 0.6}, 0) == pytest.approx(50)
    assert reward({"a": 0.9, "b": 0.9}, None) == pytest.approx(90)
    assert reward({"a": 0.6, "b": 0.6}, 1) == pytest.approx(0.2 * 50 + 0.8 * 60)
    assert reward.episodes == 2


def test_a_reward_is_made_by_name():
    assert rewards.make("plain") == Plain()
    assert rewards.make("dynamic_average", scale=0.5) == DynamicAverage(0.5, 700)
    with pytest.raises(ValueError, match=r"unknown reward 'dynamic'.*dynamic_average"):
        rewards.make("dynamic")
    for name, setting in (("plain", "scale"), ("dynamic_average", "scales")):
        with pytest.raises(ValueError, match=f"reward '{name}': .*{setting}"):
            rewards.make(name, **{setting: 1})


def test_what_a_reward_remembers_is_no_setting():
    for name in ("episodes", "previous"):
        with pytest.raises(ValueError, match=f"reward 'dynamic_average': .*{name}"):
            rewards.make("dynamic_average", **{name: 1})


def test_the_wrapper_smooths_a_plain_environment_as_its_own_reward_does(bank, evaluator):
    own = ModelMergeEnv(bank.candidates, evaluator, DynamicAverage(0.8, 3))
    wrapped = DynamicAverageReward(ModelMergeEnv(bank.candidates, evaluator), 0.8, 3)
    assert [play(own, seed) for seed in SEEDS] == [play(wrapped, seed) for seed in SEEDS]


SEEDS = [0, None, None, 0, None, None, None, None, None]


def play(env, seed):
    env.reset(seed=seed)
    return [env.step(action)[1] for action in (0, 3, 1)]


@pytest.mark.parametrize("scale", [-0.1, 1.1, float("nan")])
def test_a_scale_outside_0_1_is_refused(scale):
    with pytest.raises(ValueError, match=r"scale .* in \[0, 1\], got"):
        DynamicAverageReward(Scripted(), scale=scale)


@pytest.mark.parametrize("horizon", [0, -3])
def test_a_horizon_below_one_episode_is_refused(horizon):
    with pytest.raises(ValueError, match=r"horizon .* at least 1, got"):
        DynamicAverageReward(Scripted(), horizon=horizon)
