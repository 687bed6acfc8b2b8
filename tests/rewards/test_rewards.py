"""The dynamic average reward, by numbers worked out by hand from eq. 10."""

import gymnasium as gym
import numpy as np
import pytest

from merge_gym.rewards import DynamicAverage, DynamicAverageReward


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
        info = {"raw_reward": reward}
        if position != "invalid":
            info["pass_position"] = position
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
    assert env.state() == {"scale": 0.8, "horizon": 4, "episodes": 0, "previous": 0.0}


def test_the_raw_reward_stays_in_info():
    env = DynamicAverageReward(Scripted((50, 0), (60, 1)), scale=0.8, horizon=1)
    rewards_of(env, 1)
    env.reset()
    _, reward, _, _, info = env.step(0)
    assert (reward, info["raw_reward"]) == (pytest.approx(52), 60)


def test_state_put_back_continues_the_same_average():
    first = DynamicAverageReward(Scripted((50, 0), (60, 1), (40, 2)), scale=0.8, horizon=4)
    rewards_of(first, 2)
    second = DynamicAverageReward(Scripted((40, 2)))
    second.set_state(first.state())
    assert rewards_of(second, 1) == rewards_of(first, 1)


def test_envs_that_share_one_average_smooth_together():
    envs = [DynamicAverageReward(Scripted(outcome), 0.8, 4) for outcome in ((50, 0), (60, 1))]
    envs[1].average = envs[0].average
    assert [rewards_of(env, 1)[0] for env in envs] == pytest.approx([50, 58])


@pytest.mark.parametrize("scale", [-0.1, 1.1, float("nan")])
def test_a_scale_outside_0_1_is_refused(scale):
    with pytest.raises(ValueError, match=r"scale .* in \[0, 1\], got"):
        DynamicAverageReward(Scripted(), scale=scale)


@pytest.mark.parametrize("horizon", [0, -3])
def test_a_horizon_below_one_episode_is_refused(horizon):
    with pytest.raises(ValueError, match=r"horizon .* at least 1, got"):
        DynamicAverageReward(Scripted(), horizon=horizon)
