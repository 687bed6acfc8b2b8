"""PPO that never takes an action the environment would punish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import sb3_contrib
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.agent import agent
from agents.sb3.on_policy import TwoLearningRates
from agents.sb3.ppo import PPO


class MaskablePPOTwoRates(TwoLearningRates, sb3_contrib.MaskablePPO):
    pass


@agent("maskable_ppo")
@dataclass
class MaskablePPO(PPO):
    """PPO with invalid actions masked (Huang and Ontañón, 2020) through sb3-contrib.

    Hyper-parameters as for PPO.
    """

    algorithm: ClassVar[type[OnPolicyAlgorithm]] = MaskablePPOTwoRates
