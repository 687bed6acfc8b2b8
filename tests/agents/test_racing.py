"""When a challenger is dropped, and who is the incumbent then."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agents.racing import Racer, race_starts
from merge_gym.studies.study import BudgetSpent, Study
from tests.agents.landscapes import Landscape, taken, walk

SUBSETS = 10
EASY = np.linspace(-0.2, 0.2, SUBSETS)  # some subsets are easier than others, for everyone


def _racer(good, z=0.5, noise=0.0, seed=0, budget=None, examples=7):
    """A racer where a recipe of n layers of an expert is as good as `good` says of that expert."""
    generator = np.random.default_rng(seed)
    drawn = {}

    def score(recipe, subset):
        mean = sum(good[name] for name in taken(recipe)) / 4
        key = recipe, subset
        drawn.setdefault(key, noise * generator.normal())
        return float(np.clip(mean + EASY[subset] + drawn[key], 0, 1))

    study = Study(walk(), Landscape(score, SUBSETS, examples), budget)
    return Racer(study, z, np.random.default_rng(seed))


def _all(name):
    return {f"layers.{layer}": name for layer in range(4)}


def test_a_clear_loser_is_dropped_early_and_the_incumbent_stays():
    racer = _racer({"a": 0.6, "b": 0.3})
    racer.install(_all("a"))
    race = racer.race(_all("b"))
    assert (race.won, race.subsets) == (False, 1)
    assert race.difference == pytest.approx(-30, abs=1e-3)
    assert racer.incumbent == _all("a")
    assert racer.study.spent == racer.study.full_cost * 1.1


def test_a_winner_meets_every_subset_once_and_is_the_incumbent_then():
    racer = _racer({"a": 0.4, "b": 0.6})
    racer.install(_all("a"))
    race = racer.race(_all("b"))
    assert (race.won, race.subsets, race.variance) == (True, SUBSETS, 0)
    assert racer.incumbent == _all("b")
    assert racer.score == pytest.approx(60)
    assert racer.study.best().decisions == _all("b")
    assert racer.study.spent == 2 * racer.study.full_cost  # the incumbent's subsets were paid


def test_an_equal_does_not_win():
    racer = _racer({"a": 0.5, "b": 0.5})
    racer.install(_all("a"))
    race = racer.race(_all("b"))
    assert (race.won, race.subsets, race.difference) == (False, SUBSETS, 0)
    assert racer.incumbent == _all("a")


def test_an_infinite_z_drops_none():
    racer = _racer({"a": 0.6, "b": 0.3}, z=math.inf)
    racer.install(_all("a"))
    assert racer.race(_all("b")).subsets == SUBSETS
    assert racer.incumbent == _all("a")


def test_fewer_standard_errors_drop_sooner():
    subsets = []
    for z in (0.0, 1.0, 3.0):
        met = []
        for seed in range(20):
            racer = _racer({"a": 0.50, "b": 0.48}, z, noise=0.03, seed=seed)
            racer.install(_all("a"))
            met.append(racer.race(_all("b")).subsets)
        subsets.append(np.mean(met))
    assert subsets[0] < subsets[1] < subsets[2] < SUBSETS


def test_the_spread_of_differences_is_learnt_from_the_races():
    racer = _racer({"a": 0.5, "b": 0.5, "c": 0.5}, z=math.inf, noise=0.08, examples=1)
    racer.install(_all("a"))
    assert racer.sd == 3.0  # made up, before the first race
    names = ("a", "b", "c")
    for layers in np.random.default_rng(0).integers(3, size=(40, 4)):
        racer.race({f"layers.{layer}": names[which] for layer, which in enumerate(layers)})
    assert racer.sd == pytest.approx(8 * math.sqrt(2), rel=0.2)  # of two scores


@pytest.mark.parametrize("best", ["a", "b", "c"])
def test_the_best_start_is_installed_and_bad_ones_are_dropped(best):
    racer = _racer({"a": 0.35, "b": 0.2, "c": 0.2} | {best: 0.6}, noise=0.01)
    race_starts(racer)
    assert racer.incumbent == _all(best)
    assert racer.study.spent < 2.4 * racer.study.full_cost
    assert sum(trial.subsets is None for trial in racer.study.trials) == 1 + (best != "a")


def test_the_best_start_is_not_lost_to_a_bad_first_subset_as_other_challengers_are():
    kept = {}
    for how in ("start", "challenger"):
        kept[how] = 0
        for seed in range(40):
            racer = _racer({"a": 0.50, "b": 0.53, "c": 0.2}, noise=0.03, seed=seed)
            if how == "start":
                race_starts(racer)
            else:
                racer.install(_all("a"))
                racer.race(_all("b"))
            full = {name: racer.study.evaluate(_all(name)).mean for name in "ab"}
            kept[how] += racer.incumbent == _all(max(full, key=full.__getitem__))
    assert kept["start"] == 40 > kept["challenger"]


def test_a_race_that_cannot_be_paid_for_leaves_the_incumbent():
    racer = _racer({"a": 0.4, "b": 0.6}, budget=100)
    racer.install(_all("a"))
    with pytest.raises(BudgetSpent):
        racer.race(_all("b"))
    assert racer.incumbent == _all("a")
    assert racer.study.spent == 70 + 4 * 7  # four subsets more
