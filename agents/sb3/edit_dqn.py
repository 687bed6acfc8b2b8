"""DQN that edits an incumbent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.agent import agent
from agents.sb3.editing import EditingAgent
from merge_gym.settings import Range


@agent("edit_dqn")
@dataclass
class EditDQN(EditingAgent):
    """Deep Q-learning (Mnih et al., 2015) through Stable-Baselines3 in `ModelEdit-v0`, without
    masks: an action that the mask forbids is punished.

    Args:
        learning_rate: of the Q-network, two layers of 64.
        batch_size: transitions in a gradient step; one step is taken after each action.
        learning_starts: random actions before the first gradient step.
        target_update_interval: actions between two copies to the target network.
        gamma: discount.
        exploration_fraction: the share of `steps` over which exploration falls.
        exploration_final: the probability of a random action after that.
    """

    learning_rate: Annotated[float, Range(0)] = 1e-3
    batch_size: Annotated[int, Range(1)] = 32
    learning_starts: Annotated[int, Range(0)] = 32
    target_update_interval: Annotated[int, Range(1)] = 100
    gamma: Annotated[float, Range(0, 1)] = 0.5
    exploration_fraction: Annotated[float, Range(0, 1)] = 0.1
    exploration_final: Annotated[float, Range(0, 1)] = 0.05

    algorithm: ClassVar[type[BaseAlgorithm]] = stable_baselines3.DQN

    def model(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        return self.algorithm(
            "MlpPolicy",
            env,
            learning_rate=self.learning_rate,
            buffer_size=self.steps,
            batch_size=self.batch_size,
            learning_starts=self.learning_starts,
            train_freq=1,
            target_update_interval=self.target_update_interval,
            gamma=self.gamma,
            exploration_fraction=self.exploration_fraction,
            exploration_final_eps=self.exploration_final,
            seed=seed,
            device="cpu",
        )
