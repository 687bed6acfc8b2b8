"""What every client plays, and whether it learns there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

import merge_gym

TABLE = "fashion-halves-0"
SHARE = 0.8
"""Of the optimum: what the last fifth of the episodes must reach."""
SHARED: list[float] = []
"""Returns of a library that pickles what makes its environments: a module is not copied."""


class Returns(gym.Wrapper[Any, Any, Any, Any]):
    """Writes down what each episode scored, as a percentage; rewards are scaled to 0..1."""

    def __init__(self, env: gym.Env[Any, Any], of: list[float]) -> None:
        super().__init__(env)
        self.of = of

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated:
            self.of.append(info["raw_reward"])
        return observation, float(reward) / 100, terminated, truncated, info


def make(of: list[float], **settings: Any) -> gym.Env[Any, Any]:
    """The environment on the shipped table, with the plain reward, its returns written to `of`."""
    env = gym.make("ModelMerge-v0", table=TABLE, observe_cursor=True, dar_scale=0, **settings)
    return Returns(env, of)


def show(name: str, returns: Sequence[float]) -> None:
    """Print what the first and the last fifth of the episodes scored; SystemExit if too little."""
    optimum = 100 * merge_gym.load_table(TABLE).optimum()[1]
    fifth = max(1, len(returns) // 5)
    first, last = np.mean(returns[:fifth]), np.mean(returns[-fifth:])
    line = (
        f"{name}: {len(returns)} episodes, the first fifth scores {first:.1f}, the last {last:.1f}"
    )
    print(f"{line} (optimum {optimum:.1f})")
    if last < SHARE * optimum:
        raise SystemExit(f"{name} does not learn: below {SHARE * optimum:.1f}")
