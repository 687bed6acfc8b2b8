"""Statistics of a few runs on a few problems.

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021, arXiv:2108.13264), whose rliable this follows. Values are regrets, so less is better;
their shape is (problems, seeds). Intervals are percentiles of bootstraps stratified by problem:
seeds are drawn anew within each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Statistic = Callable[..., Values]

LEVEL = 0.95
REPEATS = 2000


@dataclass(frozen=True)
class Estimate:
    """A statistic and the bounds of its interval."""

    value: float
    low: float
    high: float


def interquartile_mean(values: Values) -> Values:
    """The mean of the middle half of all runs, over the last two axes; ⌊n / 4⌋ of n are left out
    at each end."""
    pooled = np.sort(values.reshape(*values.shape[:-2], -1), axis=-1)
    cut = pooled.shape[-1] // 4
    return pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1)


def probability_of_improvement(ours: Values, theirs: Values) -> Values:
    """How likely a run of ours has less regret than one of theirs on the same problem, equals
    counting half, averaged over problems (Mann and Whitney's U); over the last two axes."""
    one, other = ours[..., :, None], theirs[..., None, :]
    better = (one < other) + 0.5 * (one == other)
    return better.mean(axis=(-3, -2, -1))


def performance_profile(values: Values, thresholds: Values) -> Values:
    """The share of runs with at most so much regret, over the last two axes, for each threshold."""
    shares = [(values <= threshold).mean(axis=(-2, -1)) for threshold in thresholds]
    return np.stack(shares, axis=-1)


def estimate(
    statistic: Statistic, *samples: Values, repeats: int = REPEATS, seed: int = 0
) -> Estimate:
    """A statistic of one sample or several, with its interval.

    Args:
        statistic: over the last two axes of its arguments.
        *samples: values, each drawn anew by itself.
        repeats: how many bootstraps.
        seed: of the draws.
    """
    low, high = bounds(statistic, *samples, repeats=repeats, seed=seed)
    return Estimate(float(statistic(*samples)), float(low), float(high))


def bounds(
    statistic: Statistic, *samples: Values, repeats: int = REPEATS, seed: int = 0
) -> NDArray[np.float64]:
    """The lower and upper bounds of a statistic's interval; shape (2, …)."""
    generator = np.random.default_rng(seed)
    drawn = [resampled(values, repeats, generator) for values in samples]
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    return np.percentile(statistic(*drawn), tails, axis=0)


def resampled(values: Values, repeats: int, generator: np.random.Generator) -> Values:
    """Bootstraps of values: seeds drawn with replacement within each problem; shape (repeats,
    problems, seeds)."""
    problems, seeds = values.shape
    chosen = generator.integers(seeds, size=(repeats, problems, seeds))
    return np.take_along_axis(np.broadcast_to(values, chosen.shape), chosen, axis=-1)
