"""Stable-Baselines3's on-policy algorithms, updated every n episodes instead of every n steps."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.episodes import EpisodeRecord, RecordEpisodes
from agents.in_environment import InEnvironment
from agents.sb3.greedy import greedy_recipe
from agents.sb3.logging import logger
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.recipe import Recipe
from merge_gym.settings import Range
from merge_gym.studies.study import Study


class TwoLearningRates(OnPolicyAlgorithm):
    """Gives the critic's network a learning rate of its own, through every update."""

    critic_learning_rate: float

    def split_optimizer(self, critic_learning_rate: float) -> None:
        """Divide the optimiser's parameters into actor and critic; before the first update."""
        self.critic_learning_rate = critic_learning_rate
        named = list(self.policy.named_parameters())
        optimizer = self.policy.optimizer
        optimizer.param_groups.clear()
        for critic in (False, True):
            parameters = [value for name, value in named if ("value_net" in name) is critic]
            optimizer.add_param_group({"params": parameters})
        self._set_critic_rate()

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        self._set_critic_rate()

    def _set_critic_rate(self) -> None:
        self.policy.optimizer.param_groups[1]["lr"] = self.critic_learning_rate


@dataclass
class OnPolicyAgent(InEnvironment):
    """Collects whole episodes and updates. TensorBoard files come under `tensorboard/`.

    Args:
        episodes_per_update: episodes between two updates, whatever their length.
    """

    episodes_per_update: Annotated[int, Range(1)] = 4

    @abstractmethod
    def model(self, env: gym.Env, n_steps: int, seed: int) -> TwoLearningRates:
        """A fresh model whose rollout buffer has room for `n_steps` steps."""

    def play(self, env: RecordEpisodes, core: ModelMergeEnv, study: Study) -> None:
        model = self.model(env, self.episodes_per_update * core.max_steps, study.seed)
        self._model = model
        model.set_logger(logger(study))
        model.learn(total_timesteps=0)  # sets up logging and counters, seeds the environment
        while len(env.records) < self.episodes:
            left = self.episodes - len(env.records)
            collect_episodes(model, min(self.episodes_per_update, left))
            _log(model, env.records)
            model.train()

    def greedy_recipe(self, env: ModelMergeEnv) -> Recipe | None:
        return greedy_recipe(self._model, env)


def collect_episodes(model: OnPolicyAlgorithm, count: int) -> None:
    """Fill the rollout buffer of `model` with `count` whole episodes of its one environment.

    The buffer is cut to what was collected, so that an update has no empty rows and its full batch
    is all of it. Stable-Baselines3's own loop ends after `n_steps` steps only.
    """
    buffer = model.rollout_buffer
    buffer.buffer_size = model.n_steps
    buffer.reset()
    model.policy.set_training_mode(False)
    observation, starts = model.env.reset(), np.ones(1, bool)
    while count:
        masks = {}
        if isinstance(buffer, MaskableRolloutBuffer):
            masks["action_masks"] = get_action_masks(model.env)
        with torch.no_grad():
            tensor, _ = model.policy.obs_to_tensor(observation)
            action, value, log_prob = model.policy(tensor, **masks)
        following, reward, ended, infos = model.env.step(action.numpy())
        model.num_timesteps += 1
        model._update_info_buffer(infos, ended)
        buffer.add(observation, action.numpy(), reward, starts, value, log_prob, **masks)
        observation, starts = following, ended
        count -= int(ended[0])
    _cut(buffer)
    buffer.compute_returns_and_advantage(torch.zeros(1), ended)


def _cut(buffer: RolloutBuffer) -> None:
    for name, value in vars(buffer).items():
        if isinstance(value, np.ndarray):
            setattr(buffer, name, value[: buffer.pos])
    buffer.buffer_size, buffer.full = buffer.pos, True


def _log(model: OnPolicyAlgorithm, records: list[EpisodeRecord]) -> None:
    recent = [record.raw_reward for record in records[-model._stats_window_size :]]
    model.logger.record("rollout/raw_rew_mean", np.mean(recent))
    model.logger.record("rollout/raw_rew_best", max(record.raw_reward for record in records))
    model.logger.record("time/episodes", len(records))
    model.dump_logs()
