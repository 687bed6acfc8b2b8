"""Reward wrappers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray


@dataclass
class DynamicAverage:
    """The running state of the dynamic average reward (paper, eq. 10).

    With e the number of rewards averaged so far, w = scale · min(e / horizon, 1) and
    R ← w · R_prev + (1 − w) · R, where R_prev is the previous smoothed reward; w = 0 for the first
    reward of each pass over the subsets. Several environments may share one average.
    """

    scale: float
    horizon: int
    episodes: int = 0
    previous: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.scale <= 1:
            raise ValueError(f"the scale of the dynamic average is in [0, 1], got {self.scale!r}")
        if self.horizon < 1:
            raise ValueError(
                f"the horizon is a number of episodes, at least 1, got {self.horizon!r}"
            )

    def smooth(self, reward: float, starts_pass: bool) -> float:
        """Enter `reward` into the average and return the smoothed one."""
        weight = 0.0 if starts_pass else self.scale * min(self.episodes / self.horizon, 1.0)
        self.previous = weight * self.previous + (1 - weight) * reward
        self.episodes += 1
        return self.previous

    def clear(self) -> None:
        """Forget every reward."""
        self.episodes, self.previous = 0, 0.0


class DynamicAverageReward(gym.Wrapper, RecordConstructorArgs):
    """Smooth the reward of each scored episode by the dynamic average (paper, eq. 10).

    Penalties of invalid episodes, and episodes on a subset that was asked for by `reset(options)`,
    pass unchanged and neither enter nor advance the average. A seeded reset clears it.

    Args:
        env: a ModelMerge environment.
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
        if info.get("pass_position") is not None:
            reward = self.average.smooth(float(reward), starts_pass=info["pass_position"] == 0)
        return observation, reward, terminated, truncated, info

    def state(self) -> dict[str, Any]:
        """The average's state as plain values, for a checkpoint."""
        return asdict(self.average)

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        self.average = DynamicAverage(**state)
