"""What every search of a space keeps to: its start, its budget, its end."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import agents
from merge_gym import spaces
from merge_gym.studies.study import Study
from tests.agents.landscapes import Landscape, taken, walk

FROM_STARTS = ("gp", "halving", "local_search")
ON_SUBSETS = ("catcma", "cem", "random_search")
WANTED = ("a", "c", "b", "c", "a", "b")


def _right(recipe, subset):
    """The share of layers that are as wanted, a little more on some subsets."""
    have = taken(recipe)
    share = np.mean([one == other for one, other in zip(have, WANTED, strict=False)] or [0])
    return float(0.1 + 0.8 * share * len(have) / len(WANTED) + 0.01 * (subset % 3))


def _found(name, budget, layers=6, **settings):
    study = Study(walk(layers), Landscape(_right), budget=budget * 70)
    agents.make(name, **settings).search(study)
    return study


@pytest.mark.parametrize("name", FROM_STARTS)
@pytest.mark.parametrize("space", ["walk", "layerwise"])
def test_never_ends_below_its_best_start(make_study, name, space):
    study, starts = make_study(12, space), make_study(None, space)
    agents.make(name).search(study)
    start = max(starts.evaluate(start).mean for start in starts.space.starts().values())
    assert study.best().mean >= start
    assert study.best().decisions is not None


@pytest.mark.parametrize("name", [*FROM_STARTS, "catcma", "cem"])
def test_finds_the_best_recipe_in_a_fraction_of_all(name):
    assert tuple(taken(_found(name, 40).best().recipe)) == WANTED


@pytest.mark.parametrize("name", [*FROM_STARTS, *ON_SUBSETS])
def test_ends_where_every_recipe_was_scored(name):
    study = _found(name, 1000, layers=2)
    assert study.spent <= (3 + 1) ** 2 * 70
    assert study.best().mean == pytest.approx(_found("evolution", 1000, layers=2).best().mean)


@pytest.mark.parametrize("name", FROM_STARTS)
@pytest.mark.parametrize("budget", [None, 69])
def test_a_budget_that_pays_for_no_score_is_refused(name, budget):
    with pytest.raises(ValueError, match=f"at least one full evaluation, 70 .*got {budget}"):
        agents.make(name).search(Study(walk(), Landscape(_right), budget))


@pytest.mark.parametrize("name", ON_SUBSETS)
def test_a_budget_without_room_before_the_final_scores_is_refused(name):
    with pytest.raises(ValueError, match=r"more than one full evaluation, 70 .*got 70"):
        agents.make(name).search(Study(walk(), Landscape(_right), 70))
    with pytest.raises(ValueError, match=r"final=1.0 leaves .* no budget"):
        agents.make(name, final=1.0).search(Study(walk(), Landscape(_right), 700))


@pytest.mark.parametrize("name", ON_SUBSETS)
def test_what_is_reported_was_scored_on_the_whole_split(name):
    study = _found(name, 20)
    assert study.best().subsets is None
    assert study.best().decisions is not None


def no_more_than(trials):
    def heard(trial):
        assert trial.number < trials, "the search does not end"

    return heard


def test_local_search_moves_numbers_by_smaller_and_smaller_steps(bank, scorer):
    space = spaces.make("layerwise", bank.candidates, groups=1, take=False, skip=False)
    study = Study(space, scorer, budget=40 * scorer.whole_cost())
    study.listeners.append(no_more_than(3000))  # a step that stays as it is would go on for ever
    agents.make("local_search", step=0.4).search(study)
    start = study.trials[0].decisions
    moves = {
        round(abs(trial.decisions[name] - start[name]), 3)
        for trial in study.trials
        for name in start
    }
    assert {0.6, 0.3} <= moves


@pytest.mark.parametrize("space", ["walk", "layerwise"])
def test_tpe_scores_the_starts_first_and_spends_the_budget(make_study, space):
    study = make_study(12, space)
    agents.make("tpe").search(study)
    starts = list(study.space.starts().values())
    assert [trial.decisions for trial in study.trials[: len(starts)]] == starts
    assert len({trial.recipe for trial in study.trials}) == 12


def test_a_library_that_is_not_installed_is_named_before_anything_is_scored(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    study = Study(walk(), Landscape(_right), budget=700)
    with pytest.raises(ValueError, match=r"'tpe' needs the package 'optuna': pip install"):
        agents.make("tpe").search(study)
    assert not study.trials
