"""Which recipe a search found: the best of its top few, scored again, not the luckiest reward."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from tqdm import tqdm

from merge_gym.evaluation.scorer import Request
from merge_gym.recipe import Recipe
from merge_gym.studies.study import Study, Trial

Subset = tuple[int, ...] | None

SMALLEST_VARIANCE = 1e-6  # of the advantages, in points²: noise may leave less than nothing


@dataclass(frozen=True)
class Candidate:
    """What a search says about one recipe.

    Attributes:
        visits: on how many different subsets it was scored; a second score on the same subset
            says nothing new.
        advantage: mean over those of its score × 100 less the subset's mean over all trials.
        estimate: the advantage shrunk towards 0, for the fewer visits the more.
    """

    recipe: Recipe
    visits: int
    advantage: float
    estimate: float


def select(study: Study, top: int = 30, also: Iterable[Recipe | None] = ()) -> list[Trial]:
    """Score the most promising recipes of a search on the whole search split; the study's best is
    then the best of them.

    Args:
        study: whose trials so far are the search.
        top: how many of `rank`'s recipes.
        also: further recipes to score, such as the policy's greedy one; None is passed over.

    Raises:
        ValueError: there is nothing to score: no episode was valid, and nothing else was given.
        BudgetSpent: the rest cannot be paid for.
    """
    recipes = [candidate.recipe for candidate in rank(study.trials)[:top]]
    recipes = list(dict.fromkeys([*recipes, *filter(None, also)]))
    if not recipes:
        raise ValueError(
            "no episode built a model: search for longer, or with an agent that uses the action "
            "mask (maskable_ppo, random)"
        )
    bar = tqdm(recipes, desc="top", disable=None, leave=False)
    spelt = {trial.recipe: trial.decisions for trial in study.trials}
    return [study.score([Request(recipe)], [spelt.get(recipe)])[0] for recipe in bar]


def rank(trials: Iterable[Trial]) -> list[Candidate]:
    """The distinct recipes of a search, the most promising first.

    A recipe's scores, each less its subset's mean, are taken as its true advantage plus noise:
    y = θ + ε, with θ ~ N(0, τ²) over recipes and ε ~ N(0, σ²) over subsets. Both variances are
    estimated from the search itself (one-way random effects, by moments), and recipes are ordered
    by θ's posterior mean n·τ² / (n·τ² + σ²) · ȳ (James and Stein's shrinkage). One lucky reward
    therefore counts for less than the same mean over many subsets.
    """
    residuals = _residuals([trial for trial in trials if trial.valid])
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


def _residuals(trials: list[Trial]) -> dict[Recipe, dict[Subset, float]]:
    """{recipe: {subset: its score there × 100 less the subset's mean over all trials}}."""
    rewards: dict[Subset, list[float]] = {}
    for trial in trials:
        rewards.setdefault(trial.subsets, []).append(100 * trial.mean)
    means = {subset: fmean(values) for subset, values in rewards.items()}
    residuals: dict[Recipe, dict[Subset, float]] = {}
    for trial in trials:
        of = residuals.setdefault(trial.recipe, {})
        of[trial.subsets] = 100 * trial.mean - means[trial.subsets]
    return residuals


def _variances(values: list[np.ndarray]) -> tuple[float, float]:
    """τ² over recipes and σ² within them; where no recipe was scored twice, σ² is taken as 0."""
    spare = sum(len(value) - 1 for value in values)
    within = sum(float(((value - value.mean()) ** 2).sum()) for value in values) / max(spare, 1)
    between = fmean(value.mean() ** 2 - within / len(value) for value in values) if values else 0.0
    return max(between, SMALLEST_VARIANCE), within
