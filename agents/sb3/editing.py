"""Stable-Baselines3's algorithms in `ModelEdit-v0`: what they share."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from agents.agent import Agent, name_of
from agents.choices import check_walk
from agents.racing import check_budget
from agents.sb3.logging import logger
from merge_gym.envs.model_edit import ModelEditEnv
from merge_gym.settings import Range
from merge_gym.studies.study import BudgetSpent, Study

REWARD_SCALE = 5.0
"""Standard deviations that a reward counts for at most."""


@dataclass
class EditingAgent(Agent):
    """Learns in `ModelEdit-v0` from the best uniform merge, episode after episode, until the budget
    is spent; what was scored in an earlier episode is not charged again.

    It observes what edits gave; observations and rewards are normalised as they come.

    Args:
        steps: how many actions are taken at most, as long as the budget lasts.
        episode: the budget of an episode, in full evaluations; less where the study has less.
        z: of the races, in standard errors; the fewer, the sooner challengers are dropped.
    """

    steps: Annotated[int, Range(1)] = 3000
    episode: Annotated[float, Range(2)] = 30.0
    z: Annotated[float, Range(0)] = 0.5

    def check(self, study: Study) -> None:
        name = name_of(type(self))
        check_walk(name, study)
        check_budget(name, study)

    def run(self, study: Study) -> None:
        with suppress(BudgetSpent):
            env = ModelEditEnv(
                study.space.candidates,
                study.scorer,
                self.episode,
                self.z,
                observe_results=True,
                stacking=study.stacking,
            )
            scaled = VecNormalize(DummyVecEnv([lambda: env]), clip_reward=REWARD_SCALE)
            model = self.model(scaled, study.seed)
            model.set_logger(logger(study))
            model.learn(self.steps)

    @abstractmethod
    def model(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        """A fresh model."""
