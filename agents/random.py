"""The baseline of every search: random actions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.agent import Agent, agent
from agents.episodes import RecordEpisodes


@agent("random")
@dataclass
class Random(Agent):
    """Takes every allowed action with the same probability."""

    def play(self, env: RecordEpisodes, episodes: int) -> None:
        generator = np.random.default_rng(self.seed)
        _, info = env.reset(seed=self.seed)
        while len(env.records) < episodes:
            action = generator.choice(np.flatnonzero(info["action_mask"]))
            *_, terminated, _, info = env.step(action)
            if terminated:
                _, info = env.reset()
