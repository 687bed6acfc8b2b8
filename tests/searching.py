"""Environments on the tiny suite, and a search in one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import agents
import merge_gym
from agents.episodes import EpisodeRecord
from merge_gym import Recipe, Suite

MakeEnv = Callable[..., gym.Env]
Search = Callable[..., list[EpisodeRecord]]

QUICK = {  # hyper-parameters under which an agent learns something in few and fast episodes
    "ppo": {"epochs": 3, "learning_rate": 1e-2},
    "maskable_ppo": {"epochs": 3, "learning_rate": 1e-2},
    "a2c": {},
    "dqn": {"learning_starts": 10, "batch_size": 8},
    "random": {},
}


@pytest.fixture(scope="session")
def make_env(suite: Suite) -> MakeEnv:
    def make(**settings: Any) -> gym.Env:
        return gym.make(
            "ModelMerge-v0", suite=suite, **{"subsets": 4, "dar_horizon": 20, **settings}
        )

    return make


@pytest.fixture(scope="session")
def search(make_env: MakeEnv) -> Search:
    def run(
        name: str, directory: Path, episodes: int, seed: int = 0, resume: bool = False
    ) -> list[EpisodeRecord]:
        agent = agents.make(name, make_env(), seed, directory, **QUICK[name])
        return agent.search(episodes, resume=resume)

    return run


class CountingScorer:
    """A real evaluator that counts the scores it is asked for."""

    def __init__(self, evaluator: merge_gym.ReferenceEvaluator) -> None:
        self.evaluator, self.asked = evaluator, 0

    def score(
        self, recipe: Recipe, split: str = "search", subset: int | None = None
    ) -> dict[str, float]:
        self.asked += 1
        return self.evaluator.score(recipe, split, subset)

    def cost(self, split: str = "search", subset: int | None = None) -> int:
        return self.evaluator.cost(split, subset)


@pytest.fixture
def counting(evaluator: merge_gym.ReferenceEvaluator) -> CountingScorer:
    return CountingScorer(evaluator)
