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
Statistic = Callable[[Values], Values]

LEVEL = 0.95
TAILS = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
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


def improvement(ours: Values, theirs: Values, repeats: int = REPEATS, seed: int = 0) -> Estimate:
    """How likely a run of ours has less regret than one of theirs on the same problem, equals
    counting half, averaged over problems (Mann and Whitney's U); both samples are drawn anew."""
    one, other = ours[:, :, None], theirs[:, None, :]
    better = (one < other) + 0.5 * (one == other)
    generator = np.random.default_rng(seed)
    shares = [_shares(values.shape, repeats, generator) for values in (ours, theirs)]
    drawn = np.einsum("rpa,pab,rpb->r", shares[0], better, shares[1], optimize=True) / len(better)
    low, high = np.percentile(drawn, TAILS)
    return Estimate(float(better.mean()), float(low), float(high))


def _shares(
    shape: tuple[int, ...], repeats: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """How much each run weighs in bootstraps; shape (repeats, problems, seeds)."""
    problems, seeds = shape
    evenly = np.full(seeds, 1 / seeds)
    return generator.multinomial(seeds, evenly, size=(repeats, problems)) / seeds


def performance_profile(values: Values, thresholds: Values) -> Values:
    """The share of runs with at most so much regret, over the last two axes, for each threshold."""
    shares = [(values <= threshold).mean(axis=(-2, -1)) for threshold in thresholds]
    return np.stack(shares, axis=-1)


def estimate(
    statistic: Statistic, values: Values, repeats: int = REPEATS, seed: int = 0
) -> Estimate:
    """A statistic with its interval.

    Args:
        statistic: over the last two axes.
        values: of which.
        repeats: how many bootstraps.
        seed: of the draws.
    """
    drawn = statistic(resampled(values, repeats, np.random.default_rng(seed)))
    low, high = np.percentile(drawn, TAILS)
    return Estimate(float(statistic(values)), float(low), float(high))


def resampled(values: Values, repeats: int, generator: np.random.Generator) -> Values:
    """Bootstraps of values: seeds drawn with replacement within each problem; shape (repeats,
    problems, seeds)."""
    problems, seeds = values.shape
    chosen = generator.integers(seeds, size=(repeats, problems, seeds))
    return np.take_along_axis(np.broadcast_to(values, chosen.shape), chosen, axis=-1)
