"""The search that races changes: what it finds, what it pays, where it ends."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

import agents
from merge_gym import spaces
from merge_gym.studies.study import Study
from tests.agents.landscapes import Landscape, taken, walk


def _target(wanted):
    """The share of layers that are as they should be, and some noise that depends on the subset."""

    def score(recipe, subset):
        right = [have == want for have, want in zip(taken(recipe), wanted, strict=False)]
        wave = np.sin(crc32(f"{taken(recipe)} {subset}".encode()))
        return float(np.clip(0.1 + 0.8 * sum(right) / len(wanted) + 0.02 * wave, 0, 1))

    return Landscape(score)


def _best_start(study):
    return max(study.evaluate(start).mean for start in study.space.starts().values())


@pytest.mark.parametrize("space", spaces.available())
def test_it_never_ends_below_its_best_start(make_study, space):
    study = make_study(12, space, seed=1)
    agents.make("evolution").search(study)
    assert study.best().mean >= _best_start(make_study(None, space))
    assert study.spent <= study.budget


@pytest.mark.parametrize("space", ["walk", "layerwise", "depthwise"])
def test_it_betters_its_best_start(make_study, space):
    start = _best_start(make_study(None, space))
    for seed in range(2):
        study = make_study(40, space, seed=seed)
        agents.make("evolution").search(study)
        assert study.best().mean > start + 0.03


def test_it_finds_what_is_best_in_a_fraction_of_the_evaluations_of_all_recipes():
    wanted = ("a", "c", "b", "c", "a", "b")
    study = Study(walk(layers=6), _target(wanted), budget=60 * 70)
    agents.make("evolution").search(study)
    assert tuple(taken(study.best().recipe)) == wanted


def test_racing_tries_more_for_the_same_budget():
    tried = {}
    for racing in (True, False):
        study = Study(walk(layers=6), _target("acbcab"), budget=40 * 70)
        agents.make("evolution", racing=racing).search(study)
        tried[racing] = len({trial.recipe for trial in study.trials})
    assert tried[True] > 1.5 * tried[False]


def test_without_racing_every_challenger_meets_the_whole_search_split():
    study = Study(walk(layers=6), _target("acbcab"), budget=20 * 70)
    agents.make("evolution", racing=False).search(study)
    met = {}
    for trial in study.trials:
        met.setdefault(trial.recipe, set()).update(trial.subsets or range(10))
    *whole, _ = met.values()  # the budget may end in the middle of the last
    assert all(len(subsets) == 10 for subsets in whole)
    assert study.spent == study.budget


def test_it_ends_where_every_recipe_was_scored():
    study = Study(walk(layers=2), _target("ab"), budget=1000 * 70)
    agents.make("evolution", racing=False).search(study)
    assert len({trial.recipe for trial in study.trials}) == (3 + 1) ** 2
    assert study.spent == (3 + 1) ** 2 * 70


@pytest.mark.parametrize("budget", [None, 69])
def test_a_budget_that_never_ends_or_pays_for_no_score_is_refused(budget):
    with pytest.raises(ValueError, match=f"at least one full evaluation, 70 .*got {budget}"):
        agents.make("evolution").search(Study(walk(), _target("abca"), budget))


def test_one_full_evaluation_is_a_search():
    study = Study(walk(), _target("abca"), budget=70)
    agents.make("evolution").search(study)
    assert study.best().decisions == study.space.starts()["a"]


def test_mixes_alone_are_searched_where_nothing_can_be_taken(bank, scorer):
    space = spaces.make("layerwise", bank.candidates, take=False, skip=False)
    study = Study(space, scorer, budget=10 * scorer.whole_cost())
    agents.make("evolution").search(study)
    assert len({trial.recipe for trial in study.trials}) > 10


def test_it_ends_where_the_only_edit_is_already_made(bank, scorer):
    space = spaces.make("layerwise", bank.candidates, groups=1, take=False, largest=0.0)
    study = Study(space, scorer, budget=50 * scorer.whole_cost())
    agents.make("evolution").search(study)
    assert study.best()
