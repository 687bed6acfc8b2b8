"""What happened in each episode of a search, kept in `episodes.jsonl`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from merge_gym.files import JsonLines, read_lines
from merge_gym.recipe import Recipe


@dataclass(frozen=True)
class EpisodeRecord:
    """One finished episode.

    Attributes:
        index: from 0.
        reward: what the agent saw; the sum over the episode.
        raw_reward: mean over tasks × 100 on the subset, or the penalty.
        subset: which; -1 for the whole split, and for an invalid episode.
        depth: how many layers were taken.
        evaluation_cost: examples pushed through a whole model.
        scores: {task: metric in [0, 1]}; empty for an invalid episode.
        recipe: None for an invalid episode.
        seconds: from the reset to the end, evaluation included.
    """

    index: int
    reward: float
    raw_reward: float
    subset: int
    depth: int
    evaluation_cost: int
    scores: dict[str, float]
    recipe: Recipe | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        recipe = self.recipe.to_dict() if self.recipe else None
        return vars(self) | {"recipe": recipe}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EpisodeRecord:
        recipe = Recipe.from_dict(data["recipe"]) if data["recipe"] else None
        return cls(**(data | {"recipe": recipe}))


def read_episodes(file: str | Path) -> list[EpisodeRecord]:
    """The records in an `episodes.jsonl`; a last line that is not complete is left out."""
    return [EpisodeRecord.from_dict(entry) for entry in read_lines(Path(file))]


class RecordEpisodes(gym.Wrapper):
    """Append each finished episode to a file, at once; the outermost wrapper.

    Args:
        env: a ModelMerge environment.
        file: the `episodes.jsonl` to write; None keeps none.

    Attributes:
        records: the episodes so far.
        listeners: called with each new record.
    """

    def __init__(self, env: gym.Env, file: Path | None = None) -> None:
        super().__init__(env)
        self._lines = None if file is None else JsonLines(file, fresh=True)
        self.records: list[EpisodeRecord] = []
        self.listeners: list[Callable[[EpisodeRecord], None]] = []
        self._reward, self._started = 0.0, time.perf_counter()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self._reward, self._started = 0.0, time.perf_counter()
        return self.env.reset(seed=seed, options=options)

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._reward += float(reward)
        if terminated or truncated:
            self._record(info)
        return observation, float(reward), terminated, truncated, info

    def close(self) -> None:
        """Close the file; the environment stays open."""
        if self._lines is not None:
            self._lines.close()

    def _record(self, info: dict[str, Any]) -> None:
        record = EpisodeRecord(
            index=len(self.records),
            reward=self._reward,
            raw_reward=info["raw_reward"],
            subset=info["subset"],
            depth=info["depth"],
            evaluation_cost=info["evaluation_cost"],
            scores=info["scores"] if info["scored"] else {},
            recipe=self.env.get_wrapper_attr("recipe")() if info["scored"] else None,
            seconds=round(time.perf_counter() - self._started, 6),
        )
        if self._lines is not None:
            self._lines.append(record.to_dict())
        self.records.append(record)
        for listener in self.listeners:
            listener(record)
