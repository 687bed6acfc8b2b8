"""Agents that learn, or just act, in `ModelMerge-v0`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from agents.agent import Agent
from agents.episodes import RecordEpisodes
from merge_gym import rewards
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.recipe import Recipe
from merge_gym.settings import Range
from merge_gym.spaces.walk import Walk
from merge_gym.studies.progress import episodes_bar
from merge_gym.studies.selection import select
from merge_gym.studies.study import BudgetSpent, Study

EPISODES = "episodes.jsonl"


@dataclass
class InEnvironment(Agent):
    """Plays episodes of `ModelMerge-v0` on the study's candidates, each scored on one subset; at
    the end the most promising recipes are scored again on the whole search split.

    A study's directory receives `episodes.jsonl`.

    Args:
        episodes: how many are played, if the budget lasts.
        top: how many recipes are scored again at the end; their cost is kept back.
        environment: settings of `ModelMergeEnv`, with `reward` as {"name": …, settings}.
    """

    episodes: Annotated[int, Range(1)] = 700
    top: Annotated[int, Range(1)] = 30
    environment: Mapping[str, Any] = field(
        default_factory=dict, metadata={"checked_elsewhere": True}
    )

    def check(self, study: Study) -> None:
        if not isinstance(study.space, Walk):
            raise ValueError(
                f"{type(self).__name__} walks through layers: it searches space=walk, not "
                f"{type(study.space).__name__}"
            )
        if study.budget is not None and study.budget <= self.top * study.full_cost:
            raise ValueError(
                f"the {self.top} recipes that are scored again at the end cost "
                f"{self.top * study.full_cost} examples, more than the budget of {study.budget}: "
                f"lower top or raise the budget"
            )
        self.make_environment(study)  # refuses bad settings

    def make_environment(self, study: Study) -> ModelMergeEnv:
        """A fresh environment whose scores the study charges."""
        settings = dict(self.environment)
        reward = settings.pop("reward", {"name": "dynamic_average", "horizon": self.episodes})
        made = rewards.make(**reward)
        try:
            candidates = study.space.candidates
            return ModelMergeEnv(
                candidates, study.scorer, made, stacking=study.stacking, **settings
            )
        except TypeError as error:
            raise ValueError(f"environment: {error}") from None

    def run(self, study: Study) -> None:
        env = self.make_environment(study)
        file = None if study.directory is None else study.directory / EPISODES
        with RecordEpisodes(env, file) as record, episodes_bar(self.episodes) as bar:
            record.listeners.append(bar)
            with suppress(BudgetSpent), study.keeping_back(self.top * study.full_cost):
                self.play(record, env, study)
            self.played = record.records
            select(study, self.top, also=[self.greedy_recipe(env)])

    @abstractmethod
    def play(self, env: RecordEpisodes, core: ModelMergeEnv, study: Study) -> None:
        """Play in `env`, which is `core` with its episodes recorded, from a reset with the study's
        seed, until `len(env.records) == self.episodes`."""

    def greedy_recipe(self, env: ModelMergeEnv) -> Recipe | None:
        """What the policy builds when it always takes its likeliest action; None for an agent
        without a policy and for an invalid episode."""
        return None
