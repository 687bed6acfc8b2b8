"""The baseline of every search: random actions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.agent import agent
from agents.episodes import RecordEpisodes
from agents.in_environment import InEnvironment
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.studies.study import Study


@agent("random")
@dataclass
class Random(InEnvironment):
    """Takes every allowed action with the same probability."""

    def play(self, env: RecordEpisodes, core: ModelMergeEnv, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        _, info = env.reset(seed=study.seed)
        while len(env.records) < self.episodes:
            action = generator.choice(np.flatnonzero(info["action_mask"]))
            *_, terminated, _, info = env.step(action)
            if terminated:
                _, info = env.reset()
