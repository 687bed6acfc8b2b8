"""The benchmark's statistics against calculations by hand and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from experiments.benchmarking.statistics import (
    estimate,
    improvement,
    interquartile_mean,
    performance_profile,
    resampled,
)


def values(*problems):
    return np.array(problems, float)


def test_the_interquartile_mean_is_that_of_the_middle_half_of_all_runs():
    assert interquartile_mean(values([8, 1, 3, 2], [100, 5, 4, 6])) == (3 + 4 + 5 + 6) / 4
    assert interquartile_mean(values([1, 9, 2])) == 4  # ⌊3/4⌋ = 0: nothing is left out
    many = np.random.default_rng(0).normal(size=(3, 21))
    assert interquartile_mean(many) == pytest.approx(trim_mean(many.ravel(), 0.25))


def test_improvement_counts_pairs_on_each_problem_and_equals_half():
    ours, theirs = values([1, 2], [5, 5]), values([2, 3], [5, 4])
    # first problem: 1<2, 1<3, 2=2 (½), 2<3; second: 5=5 (½), 5>4, 5=5 (½), 5>4
    assert improvement(ours, theirs).value == pytest.approx((3.5 / 4 + 1 / 4) / 2)
    assert improvement(ours, ours).value == 0.5
    one, other = np.random.default_rng(0).integers(0, 9, (2, 1, 30)).astype(float)
    statistic = mannwhitneyu(other[0], one[0]).statistic
    assert improvement(one, other).value == pytest.approx(statistic / 900)


def test_a_profile_counts_runs_within_a_threshold():
    profile = performance_profile(values([0, 1], [2, 3]), np.array([-1, 0, 1.5, 3]))
    np.testing.assert_array_equal(profile, [0, 0.25, 0.5, 1])


def test_intervals_are_percentiles_of_all_draws():
    mean_of = lambda drawn: drawn.mean(axis=(-2, -1))  # noqa: E731
    # Two seeds drawn twice: 0, 5, 10 with probabilities ¼, ½, ¼.
    given = estimate(mean_of, values([0, 10]), repeats=4000)
    assert (given.value, given.low, given.high) == (5, 0, 10)
    drawn = resampled(values([0, 10]), 4000, np.random.default_rng(0)).mean(axis=(-2, -1))
    shares = [(drawn == value).mean() for value in (0, 5, 10)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_draws_stay_within_their_problem():
    alike = values([1, 1, 1], [7, 7, 7])
    assert (resampled(alike, 50, np.random.default_rng(0)) == alike).all()
    given = estimate(interquartile_mean, alike)
    assert (given.value, given.low, given.high) == (4, 4, 4)


def test_an_interval_of_a_normal_mean_is_as_wide_as_theory_says():
    sample = np.random.default_rng(1).normal(size=(4, 400))
    given = estimate(lambda drawn: drawn.mean(axis=(-2, -1)), sample)
    assert given.low < given.value < given.high
    assert given.high - given.low == pytest.approx(2 * 1.96 / 40, rel=0.08)


def test_an_interval_of_improvement_is_that_of_drawing_both_samples():
    ours, theirs = np.random.default_rng(2).integers(0, 6, (2, 3, 8)).astype(float)
    given = improvement(ours, theirs, repeats=4000)
    generator, drawn = np.random.default_rng(3), []
    for _ in range(4000):
        one, other = (
            np.take_along_axis(of, generator.integers(8, size=of.shape), 1) for of in (ours, theirs)
        )
        pairs = one[:, :, None] - other[:, None, :]
        drawn.append(((pairs < 0) + 0.5 * (pairs == 0)).mean())
    assert given.low == pytest.approx(np.percentile(drawn, 2.5), abs=0.02)
    assert given.high == pytest.approx(np.percentile(drawn, 97.5), abs=0.02)
    assert given == improvement(ours, theirs, repeats=4000)
