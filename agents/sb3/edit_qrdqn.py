"""QR-DQN that edits an incumbent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import sb3_contrib
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.agent import agent
from agents.sb3.edit_dqn import EditDQN


@agent("edit_qrdqn")
@dataclass
class EditQRDQN(EditDQN):
    """Quantile regression DQN (Dabney et al., 2018) through sb3-contrib in `ModelEdit-v0`. Settings
    as of `edit_dqn`.
    """

    algorithm: ClassVar[type[BaseAlgorithm]] = sb3_contrib.QRDQN
