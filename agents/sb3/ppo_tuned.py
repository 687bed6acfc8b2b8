"""PPO set up for few evaluations: whole batches on one subset, no critic, few epochs."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer

from agents.agent import Agent, agent
from agents.choices import Words, check_walk
from agents.racing import Racer, race_starts
from agents.reinforce import leave_one_out
from agents.sb3.greedy import greedy_recipe
from agents.sb3.logging import logger
from agents.subsets import check_final, finals
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.envs.vector import ModelMergeVectorEnv
from merge_gym.settings import Range
from merge_gym.studies.selection import select
from merge_gym.studies.study import BudgetSpent, Study

PATIENCE = 10
"""Batches in a row that tell nothing new, after which a policy counts as settled."""

ROUNDS = 20
"""Policies that are learnt at most, each from the start."""

LARGEST = 2.5
"""Standard deviations that an advantage counts for at most."""


@agent("ppo_tuned")
@dataclass
class PPOTuned(Agent):
    """PPO (Schulman et al., 2017) through sb3-contrib in `ModelMerge-v0`, tuned on tables.

    What differs from the published settings: the policy sees the cursor, and begins at the best of
    the space's starts, which race; a batch of episodes is played in lock-step, without stacking,
    and scored together on one subset; the baseline of an episode is the mean of the batch's others,
    not a critic; and an update is a few epochs. A policy that has settled makes room for a fresh
    one as long as the budget lasts. At the end the most promising recipes and the greedy ones are
    scored again on the whole search split. Two tanh layers of 64.

    Args:
        batch: episodes in an update.
        learning_rate: of the policy.
        epochs: passes over a batch in an update, each one full batch.
        clip_range: ε of the clipped objective.
        entropy_coefficient: weight of the entropy.
        max_grad_norm: bound on the gradient's norm.
        bias: the probability, at first, of the best start's candidate at each layer.
        final: the share of the budget that is kept for the final scoring.
    """

    batch: Annotated[int, Range(2)] = 12
    learning_rate: Annotated[float, Range(0)] = 1e-2
    epochs: Annotated[int, Range(1)] = 4
    clip_range: Annotated[float, Range(0)] = 0.2
    entropy_coefficient: Annotated[float, Range(0)] = 1e-4
    max_grad_norm: Annotated[float, Range(0)] = 0.5
    bias: Annotated[float, Range(0.01, 0.99)] = 0.5
    final: Annotated[float, Range(0, 1)] = 0.3

    def check(self, study: Study) -> None:
        check_walk("ppo_tuned", study)
        check_final("ppo_tuned", self.final, study)

    def run(self, study: Study) -> None:
        candidates, top = study.space.candidates, finals(self.final, study)
        env = ModelMergeEnv(candidates, study.scorer, observe_cursor=True, stacking=False)
        envs = ModelMergeVectorEnv(env, self.batch, AutoresetMode.DISABLED)
        envs.reset(seed=study.seed)
        models: list[MaskablePPO] = []
        with suppress(BudgetSpent), study.keeping_back(top * study.full_cost):
            racer = Racer(study, 0.0, np.random.default_rng(study.seed))
            race_starts(racer)
            start = int(Words(study.space).read(racer.incumbent)[0])
            while len(models) < ROUNDS:
                models.append(self._model(env, study, len(models)))
                self._begin_at(start, models[-1])
                self._learn(models[-1], envs, study)
        select(study, top, also=[greedy_recipe(model, env) for model in models])

    def _learn(self, model: MaskablePPO, envs: ModelMergeVectorEnv, study: Study) -> None:
        """Until the policy has settled."""
        idle = 0
        while idle < PATIENCE:
            before = study.spent
            play(model, envs)
            model.train()
            idle = idle + 1 if study.spent == before else 0

    def _model(self, env: ModelMergeEnv, study: Study, number: int = 0) -> MaskablePPO:
        layers = study.space.candidates.depth
        model = MaskablePPO(
            "MlpPolicy",
            env,
            learning_rate=self.learning_rate,
            batch_size=self.batch * layers,
            n_epochs=self.epochs,
            clip_range=self.clip_range,
            normalize_advantage=False,
            vf_coef=0.0,
            ent_coef=self.entropy_coefficient,
            max_grad_norm=self.max_grad_norm,
            seed=study.seed + 1000 * number,
            device="cpu",
        )
        spaces = env.observation_space, env.action_space
        model.rollout_buffer = MaskableRolloutBuffer(layers, *spaces, "cpu", n_envs=self.batch)
        model.set_logger(logger(study))
        return model

    def _begin_at(self, candidate: int, model: MaskablePPO) -> None:
        """Make a candidate as likely as `bias` says, everywhere."""
        allowed = int(model.action_space.n) - 1  # all but going back
        with torch.no_grad():
            model.policy.action_net.bias[candidate] = math.log(
                self.bias * (allowed - 1) / (1 - self.bias)
            )


def play(model: MaskablePPO, envs: ModelMergeVectorEnv) -> None:
    """Fill the model's buffer with an episode of each environment, of as many steps as layers;
    all steps of an episode have its leave-one-out advantage, in standard deviations."""
    buffer = model.rollout_buffer
    buffer.reset()
    model.policy.set_training_mode(False)
    observations, _ = envs.reset()
    starts = np.ones(envs.num_envs, np.bool_)
    for _ in range(buffer.buffer_size):
        masks = envs.action_masks()
        with torch.no_grad():
            actions, values, log_probs = model.policy(
                torch.as_tensor(observations), action_masks=masks
            )
        following, rewards, ended, *_ = envs.step(actions.numpy())
        buffer.add(
            observations, actions.numpy(), rewards, starts, values, log_probs, action_masks=masks
        )
        observations, starts = following, ended
        model.num_timesteps += envs.num_envs
    gains = leave_one_out(rewards)
    scaled = np.clip(gains / (gains.std() + 1e-8), -LARGEST, LARGEST)
    buffer.advantages[:] = scaled
    buffer.returns[:] = rewards
