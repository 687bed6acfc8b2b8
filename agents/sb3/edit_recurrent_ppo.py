"""PPO with a memory that edits an incumbent."""

from __future__ import annotations

from dataclasses import dataclass

import sb3_contrib
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.agent import agent
from agents.sb3.edit_ppo import EditPPO


@agent("edit_recurrent_ppo")
@dataclass
class EditRecurrentPPO(EditPPO):
    """PPO with an LSTM of 64 units (sb3-contrib) in `ModelEdit-v0`, without masks: an action that
    the mask forbids is punished. Settings as of `edit_ppo`.
    """

    def model(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        return sb3_contrib.RecurrentPPO(
            "MlpLstmPolicy",
            env,
            learning_rate=self.learning_rate,
            n_steps=self.n_steps,
            batch_size=self.n_steps,
            n_epochs=self.epochs,
            gamma=self.gamma,
            policy_kwargs={"lstm_hidden_size": 64},
            seed=seed,
            device="cpu",
        )
