"""DQN: values of actions, learnt from a replay buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import stable_baselines3
from stable_baselines3.common.callbacks import BaseCallback

from agents.agent import agent
from agents.episodes import RecordEpisodes
from agents.in_environment import InEnvironment
from agents.sb3.greedy import greedy_recipe
from agents.sb3.logging import logger
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.recipe import Recipe
from merge_gym.settings import Range
from merge_gym.studies.study import Study


@agent("dqn")
@dataclass
class DQN(InEnvironment):
    """Deep Q-learning (Mnih et al., 2015) through Stable-Baselines3.

    Args:
        learning_rate: of the Q-network, two layers of 64.
        batch_size: transitions in a gradient step; one step is taken after each action.
        learning_starts: random actions before the first gradient step.
        target_update_interval: actions between two copies to the target network.
        gamma: discount.
        exploration_fraction: the share of all episodes over which exploration falls.
        exploration_final: the probability of a random action after that.
    """

    learning_rate: Annotated[float, Range(0)] = 1e-3
    batch_size: Annotated[int, Range(1)] = 64
    learning_starts: Annotated[int, Range(0)] = 100
    target_update_interval: Annotated[int, Range(1)] = 250
    gamma: Annotated[float, Range(0, 1)] = 0.99
    exploration_fraction: Annotated[float, Range(0, 1)] = 0.5
    exploration_final: Annotated[float, Range(0, 1)] = 0.05

    def play(self, env: RecordEpisodes, core: ModelMergeEnv, study: Study) -> None:
        steps = self.episodes * core.max_steps
        self._model = stable_baselines3.DQN(
            "MlpPolicy",
            env,
            learning_rate=self.learning_rate,
            buffer_size=steps,
            batch_size=self.batch_size,
            learning_starts=self.learning_starts,
            train_freq=1,
            target_update_interval=self.target_update_interval,
            gamma=self.gamma,
            seed=study.seed,
            device="cpu",
        )
        self._model.exploration_schedule = lambda _: self._exploration(
            len(env.records) / self.episodes
        )
        self._model.set_logger(logger(study))
        self._model.learn(steps, StopAfter(self.episodes, env), log_interval=4)

    def greedy_recipe(self, env: ModelMergeEnv) -> Recipe | None:
        return greedy_recipe(self._model, env)

    def _exploration(self, progress: float) -> float:
        """The probability of a random action, falling in a straight line from 1."""
        fallen = min(progress / self.exploration_fraction, 1.0) if self.exploration_fraction else 1
        return 1 + fallen * (self.exploration_final - 1)


class StopAfter(BaseCallback):
    """Ends the learning when `env` has recorded `episodes` episodes."""

    def __init__(self, episodes: int, env: RecordEpisodes) -> None:
        super().__init__()
        self.episodes, self.env = episodes, env

    def _on_step(self) -> bool:
        return len(self.env.records) < self.episodes
