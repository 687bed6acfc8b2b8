"""PPO that edits an incumbent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import sb3_contrib
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.agent import agent
from agents.sb3.editing import EditingAgent
from merge_gym.settings import Range


@agent("edit_ppo")
@dataclass
class EditPPO(EditingAgent):
    """PPO (Schulman et al., 2017) with masks (Huang and Ontañón, 2020) through sb3-contrib, in
    `ModelEdit-v0`. Two tanh layers of 64 each for actor and critic.

    Args:
        learning_rate: of both networks.
        n_steps: actions between two updates.
        epochs: passes over them in an update, each one full batch.
        gamma: discount; edits are judged by what they give now and little later.
    """

    learning_rate: Annotated[float, Range(0)] = 3e-3
    n_steps: Annotated[int, Range(2)] = 32
    epochs: Annotated[int, Range(1)] = 4
    gamma: Annotated[float, Range(0, 1)] = 0.5

    def model(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        return sb3_contrib.MaskablePPO(
            "MlpPolicy",
            env,
            learning_rate=self.learning_rate,
            n_steps=self.n_steps,
            batch_size=self.n_steps,
            n_epochs=self.epochs,
            gamma=self.gamma,
            seed=seed,
            device="cpu",
        )
