"""Studies on the tiny suite, and searches in one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agents
from agents import Agent
from merge_gym import Evaluator, LayerBank, Scorer, spaces
from merge_gym.studies.study import Study
from tests.searching import QUICK

OF_LIBRARIES = ("backward_greedy", "kept_ends", "likeness", "nsga2")
SEARCHING = tuple(name for name in agents.available() if name not in OF_LIBRARIES)
"""The agents that search for one recipe."""

MakeStudy = Callable[..., Study]
Search = Callable[..., Study]


@pytest.fixture(scope="session")
def scorer(bank: LayerBank) -> Scorer:
    return Evaluator(bank, subsets=4)


@pytest.fixture(scope="session")
def make_study(bank: LayerBank, scorer: Scorer) -> MakeStudy:
    def make(
        budget: float | None = None, space: str = "walk", scorer: Scorer = scorer, **settings: Any
    ) -> Study:
        """A study whose budget is given in full evaluations."""
        examples = None if budget is None else round(budget * scorer.whole_cost())
        return Study(spaces.make(space, bank.candidates), scorer, examples, **settings)

    return make


def quick(name: str, episodes: int = 12, **settings: Any) -> Agent:
    """An agent that learns something in few and fast episodes."""
    settings = {**QUICK.get(name, {}), **settings}
    if "episodes" in agents.settings_of(name):
        reward = {"name": "dynamic_average", "horizon": 20}
        settings = {
            "episodes": episodes,
            "top": 2,
            "environment": {"reward": reward},
            **settings,
        }
    return agents.make(name, **settings)


@pytest.fixture(scope="session")
def search(make_study: MakeStudy) -> Search:
    def run(name: str, directory: Path | None = None, episodes: int = 12, **settings: Any) -> Study:
        """What an agent did in that many episodes; one that plays none has twelve evaluations."""
        budget = None if "episodes" in agents.settings_of(name) else 12
        with make_study(budget, directory=directory, **settings) as study:
            quick(name, episodes).search(study)
        return study

    return run
