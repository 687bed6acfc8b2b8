"""Environments and searches on the tiny suite, and a scorer that counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import agents
from agents.episodes import EpisodeRecord
from merge_gym import Evaluator, LayerBank, Outcome, ReferenceEvaluator, Request, Scorer, Suite
from merge_gym.spaces.walk import Walk
from merge_gym.studies.study import Study

MakeEnv = Callable[..., gym.Env]
Search = Callable[..., list[EpisodeRecord]]

QUICK = {  # hyper-parameters under which an agent learns something in few and fast episodes
    "ppo": {"epochs": 3, "learning_rate": 1e-2},
    "maskable_ppo": {"epochs": 3, "learning_rate": 1e-2},
    "a2c": {},
    "dqn": {"learning_starts": 10, "batch_size": 8},
    "random": {},
    "edit_ppo": {"steps": 60, "n_steps": 16},
    "edit_recurrent_ppo": {"steps": 60, "n_steps": 16},
    "edit_dqn": {"steps": 60, "learning_starts": 10, "batch_size": 8},
    "edit_qrdqn": {"steps": 60, "learning_starts": 10, "batch_size": 8},
}


@pytest.fixture(scope="session")
def make_env(suite: Suite) -> MakeEnv:
    def make(**settings: Any) -> gym.Env:
        return gym.make(
            "ModelMerge-v0", suite=suite, **{"subsets": 4, "dar_horizon": 20, **settings}
        )

    return make


@pytest.fixture(scope="session")
def search(suite: Suite) -> Search:
    """A search by an agent that plays episodes; what it played."""
    bank = LayerBank(suite)
    scorer = Evaluator(bank, subsets=4)
    reward = {"name": "dynamic_average", "horizon": 20}

    def run(
        name: str, directory: Path, episodes: int, seed: int = 0, resume: bool = False
    ) -> list[EpisodeRecord]:
        settings = {"episodes": episodes, "top": 2, "environment": {"reward": reward}}
        agent = agents.make(name, **settings, **QUICK[name])
        with Study(Walk(bank.candidates), scorer, None, seed, directory, resume) as study:
            agent.search(study)
        return agent.played

    return run


class CountingScorer(Scorer):
    """Another scorer, and what was asked of it.

    Attributes:
        requests: all that it was asked for, in order.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.tasks, self.subset_count = scorer.tasks, scorer.subset_count
        self.requests: list[Request] = []

    @property
    def asked(self) -> int:
        """How many requests it was asked for."""
        return len(self.requests)

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        self.requests += requests
        return self.scorer.evaluate(requests)

    def cost(self, request: Request) -> int:
        return self.scorer.cost(request)


@pytest.fixture
def counting(evaluator: ReferenceEvaluator) -> CountingScorer:
    return CountingScorer(evaluator)
