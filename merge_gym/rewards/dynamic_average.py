"""The dynamic average reward (paper, eq. 10)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from merge_gym.evaluation.scorer import mean_over_tasks
from merge_gym.rewards.reward import reward


@reward("dynamic_average")
@dataclass
class DynamicAverage:
    """The mean over tasks of the metric × 100, smoothed over episodes (paper, eq. 10).

    With e the number of rewards averaged so far, w = scale · min(e / horizon, 1) and
    R ← w · R_prev + (1 − w) · R, where R_prev is the previous smoothed reward; w = 0 for the first
    reward of each pass over the subsets. Episodes outside a pass are neither smoothed nor entered.

    Args:
        scale: λ in [0, 1]; 0 leaves the rewards as they are.
        horizon: T_max, the planned number of scored episodes.
    """

    scale: float = 0.8
    horizon: int = 700
    episodes: int = field(default=0, init=False)
    previous: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        number = isinstance(self.scale, int | float) and math.isfinite(self.scale)
        if not number or not 0 <= self.scale <= 1:
            raise ValueError(f"the scale of the dynamic average is in [0, 1], got {self.scale!r}")
        if isinstance(self.horizon, bool) or not isinstance(self.horizon, int) or self.horizon < 1:
            raise ValueError(
                f"the horizon is a number of episodes, at least 1, got {self.horizon!r}"
            )

    def __call__(self, scores: Mapping[str, float], position: int | None) -> float:
        raw = 100 * mean_over_tasks(scores)
        return raw if position is None else self.smooth(raw, starts_pass=position == 0)

    def smooth(self, reward: float, starts_pass: bool) -> float:
        """Enter `reward` into the average and return the smoothed one."""
        weight = 0.0 if starts_pass else self.scale * min(self.episodes / self.horizon, 1.0)
        self.previous = weight * self.previous + (1 - weight) * reward
        self.episodes += 1
        return self.previous

    def clear(self) -> None:
        """Forget every reward."""
        self.episodes, self.previous = 0, 0.0

    def state(self) -> dict[str, Any]:
        return asdict(self)

    def set_state(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class DynamicAverageReward(gym.Wrapper, RecordConstructorArgs):
    """The dynamic average as a wrapper, for environments of one's own.

    `ModelMerge-v0` needs none: its reward is a setting (`dar_scale`, `dar_horizon`, `reward`). The
    wrapped environment says in `info["pass_position"]` of a scored episode's last step how many
    episodes were scored before in this pass over the subsets (-1: outside a pass), and in
    `info["scored"]` whether the episode was scored. Other rewards pass unchanged. A seeded reset
    clears the average.

    Args:
        env: the environment.
        scale: λ in [0, 1]; 0 leaves the rewards as they are.
        horizon: T_max, the planned number of scored episodes.
    """

    def __init__(self, env: gym.Env, scale: float = 0.8, horizon: int = 700) -> None:
        RecordConstructorArgs.__init__(self, scale=scale, horizon=horizon)
        gym.Wrapper.__init__(self, env)
        self.average = DynamicAverage(scale, horizon)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if seed is not None:
            self.average.clear()
        return self.env.reset(seed=seed, options=options)

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if info.get("scored") and info["pass_position"] >= 0:
            reward = self.average.smooth(float(reward), starts_pass=info["pass_position"] == 0)
        return observation, float(reward), terminated, truncated, info
