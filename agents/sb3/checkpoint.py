"""An on-policy agent between two updates, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor

from merge_gym.files import replacing

COUNTERS = ("num_timesteps", "_n_updates")


@dataclass(frozen=True)
class Checkpoint:
    """All that the rest of a search depends on, at the end of an update, when no episode runs.

    Attributes:
        tensors: `policy.*`, `optimizer.<parameter>.*`, and the state of torch's generator.
        state: the rest as JSON values: episodes ended, SB3's counters and its window of recent
            episodes, NumPy's two generators, the subset schedule, the reward wrappers.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    @property
    def episodes(self) -> int:
        """How many episodes had ended."""
        return self.state["episodes"]

    @classmethod
    def take(cls, model: OnPolicyAlgorithm, env: gym.Env, episodes: int) -> Checkpoint:
        """The present state of `model` and of the environment that it plays in."""
        moments = model.policy.optimizer.state_dict()["state"]
        tensors = {f"policy.{name}": value for name, value in model.policy.state_dict().items()}
        for index, values in moments.items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        tensors["torch"] = torch.get_rng_state()
        state = {
            "episodes": episodes,
            "counters": {name: getattr(model, name) for name in COUNTERS},
            "recent": list(model.ep_info_buffer or ()),
            "numpy": _plain(np.random.get_state(legacy=False)),
            "env": env.unwrapped.np_random.bit_generator.state,
            "subsets": env.unwrapped.schedule.state(),
            "rewards": [wrapper.state() for wrapper in _stateful(env)],
        }
        return cls(tensors, state)

    def restore(self, model: OnPolicyAlgorithm, env: gym.Env) -> None:
        """Put the state into a fresh model and a seeded environment."""
        model.policy.load_state_dict(self._under("policy."))
        optimizer = model.policy.optimizer.state_dict()
        for name, value in self._under("optimizer.").items():
            index, key = name.split(".")
            optimizer["state"].setdefault(int(index), {})[key] = value
        model.policy.optimizer.load_state_dict(optimizer)
        for name, value in self.state["counters"].items():
            setattr(model, name, value)
        model.ep_info_buffer.extend(self.state["recent"])
        env.unwrapped.np_random.bit_generator.state = self.state["env"]
        env.unwrapped.schedule.set_state(self.state["subsets"])
        for wrapper, state in zip(_stateful(env), self.state["rewards"], strict=True):
            wrapper.set_state(state)
        np.random.set_state(self.state["numpy"])
        torch.set_rng_state(self.tensors["torch"])

    def write(self, file: Path) -> None:
        """Write all of it or nothing."""
        with replacing(file) as temporary:
            save_file(self.tensors, temporary, metadata={"state": json.dumps(self.state)})

    @classmethod
    def read(cls, file: Path) -> Checkpoint:
        with safe_open(file, "pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            return cls(tensors, json.loads(handle.metadata()["state"]))

    def _under(self, prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): value
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }


def _stateful(env: gym.Env) -> Iterator[Any]:
    """The wrappers that carry something from episode to episode, from the outermost."""
    while isinstance(env, gym.Wrapper):
        if hasattr(env, "set_state"):
            yield env
        env = env.env


def _plain(state: Any) -> Any:
    """The state of NumPy's global generator with its array as a list."""
    return state | {"state": state["state"] | {"key": state["state"]["key"].tolist()}}
