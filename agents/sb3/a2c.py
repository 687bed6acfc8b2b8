"""A2C, the simplest actor-critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import stable_baselines3

from agents.agent import agent
from agents.sb3.on_policy import OnPolicyAgent, TwoLearningRates
from merge_gym.settings import Range


class A2CTwoRates(TwoLearningRates, stable_baselines3.A2C):
    pass


@agent("a2c")
@dataclass
class A2C(OnPolicyAgent):
    """Advantage actor-critic (Mnih et al., 2016) through Stable-Baselines3: one RMSprop step on
    each batch of episodes.

    Args:
        learning_rate: of the actor.
        critic_learning_rate: of the critic, a network apart.
        gamma: discount.
        gae_lambda: 1 makes the advantage R − V(s).
        normalize_advantage: to mean 0 and variance 1 in each update.
        value_coefficient, entropy_coefficient: weights of the two other losses.
        max_grad_norm: bound on the norm of both networks' gradient together.
    """

    learning_rate: Annotated[float, Range(0)] = 3e-3
    critic_learning_rate: Annotated[float, Range(0)] = 1e-2
    gamma: Annotated[float, Range(0, 1)] = 0.99
    gae_lambda: Annotated[float, Range(0, 1)] = 1.0
    normalize_advantage: bool = True
    value_coefficient: Annotated[float, Range(0)] = 0.5
    entropy_coefficient: Annotated[float, Range(0)] = 1e-4
    max_grad_norm: Annotated[float, Range(0)] = 0.5

    def model(self, env: gym.Env, n_steps: int, seed: int) -> TwoLearningRates:
        model = A2CTwoRates(
            "MlpPolicy",
            env,
            learning_rate=self.learning_rate,
            n_steps=n_steps,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            normalize_advantage=self.normalize_advantage,
            vf_coef=self.value_coefficient,
            ent_coef=self.entropy_coefficient,
            max_grad_norm=self.max_grad_norm,
            seed=seed,
            device="cpu",
        )
        model.split_optimizer(self.critic_learning_rate)
        return model
