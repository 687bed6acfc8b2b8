"""Which recipe a search found: the best of its top few, scored again, not the luckiest reward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from tqdm import tqdm

from agents.episodes import EpisodeRecord
from merge_gym.evaluation import Scorer
from merge_gym.recipe import Recipe

Subset = int | str

SMALLEST_VARIANCE = 1e-6  # of the advantages, in points²: noise may leave less than nothing


@dataclass(frozen=True)
class Candidate:
    """What the episodes say about one recipe.

    Attributes:
        visits: on how many different subsets it was scored; a second score on the same subset
            says nothing new.
        advantage: mean over those of its raw reward less the subset's mean over all episodes.
        estimate: the advantage shrunk towards 0, for the fewer visits the more.
    """

    recipe: Recipe
    visits: int
    advantage: float
    estimate: float


@dataclass(frozen=True)
class Selection:
    """Recipes scored again on the whole search split.

    Attributes:
        scores: {recipe: {task: metric in [0, 1]}}, best mean over tasks first.
        evaluation_cost: examples pushed through a whole model to score them.
    """

    scores: dict[Recipe, dict[str, float]]
    evaluation_cost: int

    @property
    def best(self) -> Recipe:
        return next(iter(self.scores))


def select(
    episodes: Sequence[EpisodeRecord],
    evaluator: Scorer,
    top: int = 30,
    also: Iterable[Recipe | None] = (),
) -> Selection:
    """Score the most promising recipes of a search on the whole search split.

    Args:
        episodes: the search.
        evaluator: what scores them.
        top: how many of `rank`'s recipes.
        also: further recipes to score, such as the policy's greedy one; None is passed over.

    Raises:
        ValueError: there is nothing to score: no episode was valid, and nothing else was given.
    """
    recipes = [candidate.recipe for candidate in rank(episodes)[:top]]
    recipes = list(dict.fromkeys([*recipes, *filter(None, also)]))
    if not recipes:
        raise ValueError(
            f"none of the {len(episodes)} episodes built a model: search for longer, or with an "
            f"agent that uses the action mask (maskable_ppo, random)"
        )
    scores = {recipe: evaluator.score(recipe) for recipe in tqdm(recipes, desc="top", disable=None)}
    best_first = sorted(recipes, key=lambda recipe: fmean(scores[recipe].values()), reverse=True)
    cost = len(recipes) * evaluator.cost()
    return Selection({recipe: scores[recipe] for recipe in best_first}, cost)


def rank(episodes: Iterable[EpisodeRecord]) -> list[Candidate]:
    """The distinct recipes of a search, the most promising first.

    A recipe's raw rewards, each less its subset's mean, are taken as its true advantage plus noise:
    y = θ + ε, with θ ~ N(0, τ²) over recipes and ε ~ N(0, σ²) over subsets. Both variances are
    estimated from the search itself (one-way random effects, by moments), and recipes are ordered
    by θ's posterior mean n·τ² / (n·τ² + σ²) · ȳ (James and Stein's shrinkage). One lucky reward
    therefore counts for less than the same mean over many subsets.
    """
    residuals = _residuals([episode for episode in episodes if episode.recipe])
    values = [np.array(list(by_subset.values())) for by_subset in residuals.values()]
    between, within = _variances(values)
    candidates = [
        Candidate(
            recipe,
            visits=len(value),
            advantage=float(value.mean()),
            estimate=float(value.mean() * len(value) * between / (len(value) * between + within)),
        )
        for recipe, value in zip(residuals, values, strict=True)
    ]
    return sorted(candidates, key=lambda candidate: candidate.estimate, reverse=True)


def _residuals(episodes: list[EpisodeRecord]) -> dict[Recipe, dict[Subset, float]]:
    """{recipe: {subset: its raw reward there less the subset's mean over all episodes}}."""
    rewards: dict[Subset, list[float]] = {}
    for episode in episodes:
        rewards.setdefault(_subset(episode), []).append(episode.raw_reward)
    means = {subset: fmean(values) for subset, values in rewards.items()}
    residuals: dict[Recipe, dict[Subset, float]] = {}
    for episode in episodes:
        assert episode.recipe is not None
        subset = _subset(episode)
        residuals.setdefault(episode.recipe, {})[subset] = episode.raw_reward - means[subset]
    return residuals


def _subset(episode: EpisodeRecord) -> Subset:
    assert episode.subset is not None
    return episode.subset


def _variances(values: list[np.ndarray]) -> tuple[float, float]:
    """τ² over recipes and σ² within them; where no recipe was scored twice, σ² is taken as 0."""
    spare = sum(len(value) - 1 for value in values)
    within = sum(float(((value - value.mean()) ** 2).sum()) for value in values) / max(spare, 1)
    between = fmean(value.mean() ** 2 - within / len(value) for value in values) if values else 0.0
    return max(between, SMALLEST_VARIANCE), within
