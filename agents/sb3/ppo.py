"""PPO with the hyper-parameters of Reinforced Model Merging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import gymnasium as gym
import stable_baselines3
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.agent import agent
from agents.sb3.on_policy import OnPolicyAgent, TwoLearningRates
from merge_gym.settings import Range


class PPOTwoRates(TwoLearningRates, stable_baselines3.PPO):
    pass


@agent("ppo")
@dataclass
class PPO(OnPolicyAgent):
    """Proximal Policy Optimization (Schulman et al., 2017) through Stable-Baselines3.

    Actor and critic are two networks of two tanh layers of 64, its default. The published values
    stand where there are any. Not published, and chosen here: advantages are normalised in each
    update, since rewards are percentages and the critic begins at 0, and the gradient's norm is
    bounded as Stable-Baselines3 does by default.

    Args:
        learning_rate: of the actor.
        critic_learning_rate: of the critic, a network apart.
        epochs: passes over the collected episodes in an update, each one full batch.
        clip_range: ε of eq. 8.
        gamma: discount.
        gae_lambda: 1 makes the advantage R − V(s), as in eq. 9.
        normalize_advantage: to mean 0 and variance 1 in each update.
        value_coefficient, entropy_coefficient: weights of the two other losses.
        max_grad_norm: bound on the norm of both networks' gradient together.
    """

    learning_rate: Annotated[float, Range(0)] = 3e-4
    critic_learning_rate: Annotated[float, Range(0)] = 1e-3
    epochs: Annotated[int, Range(1)] = 40
    clip_range: Annotated[float, Range(0)] = 0.2
    gamma: Annotated[float, Range(0, 1)] = 0.99
    gae_lambda: Annotated[float, Range(0, 1)] = 1.0
    normalize_advantage: bool = True
    value_coefficient: Annotated[float, Range(0)] = 0.5
    entropy_coefficient: Annotated[float, Range(0)] = 1e-4
    max_grad_norm: Annotated[float, Range(0)] = 0.5

    algorithm: ClassVar[type[OnPolicyAlgorithm]] = PPOTwoRates

    def model(self, env: gym.Env, n_steps: int, seed: int) -> TwoLearningRates:
        model = self.algorithm(
            "MlpPolicy",
            env,
            learning_rate=self.learning_rate,
            n_steps=n_steps,
            batch_size=n_steps,
            n_epochs=self.epochs,
            clip_range=self.clip_range,
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
