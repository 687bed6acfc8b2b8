"""Which recipes a search's noisy rewards speak for."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from merge_gym import Outcome
from merge_gym.spaces.walk import Walk
from merge_gym.studies.selection import rank, select
from merge_gym.studies.study import BudgetSpent, Study, Trial

SUBSETS = 10


def _trial(recipe, subset, score):
    """A recipe's score × 100 on a subset."""
    outcome = Outcome({"only": np.array([score / 100])}, 10)
    return Trial(0, recipe, None, (subset,), outcome, 10, 10)


@pytest.fixture(scope="module")
def recipes(bank):
    takes = product(range(len(bank.candidates.sources)), repeat=3)
    return [bank.candidates.recipe(list(enumerate(take))) for take in takes]


@pytest.fixture(scope="module")
def noisy_search(recipes):
    """Rewards with noise of 5 points: most recipes seen once, one good recipe often."""
    generator = np.random.default_rng(0)
    good, lucky, *rest = recipes
    trials = [
        _trial(recipe, subset, 50 + 2 * generator.normal() + 5 * generator.normal())
        for recipe in rest
        for subset in generator.choice(SUBSETS, size=2, replace=False)
    ]
    trials += [_trial(good, subset, 55 + 5 * generator.normal()) for subset in range(SUBSETS)]
    return [*trials, _trial(lucky, 0, 62)], good, lucky


def test_many_good_visits_come_before_one_lucky_one(noisy_search):
    trials, good, lucky = noisy_search
    assert max(trials, key=lambda trial: trial.mean).recipe != good
    ranked = rank(trials)
    places = {candidate.recipe: place for place, candidate in enumerate(ranked)}
    assert places[good] == 0 < places[lucky]
    by_recipe = {candidate.recipe: candidate for candidate in ranked}
    assert by_recipe[lucky].advantage > by_recipe[good].advantage


def test_estimates_are_nearer_the_truth_than_plain_means(recipes):
    generator = np.random.default_rng(1)
    truth = dict(zip(recipes, 4 * generator.normal(size=len(recipes)), strict=True))
    trials = [
        _trial(recipe, subset, 50 + true + 5 * generator.normal())
        for recipe, true in truth.items()
        for subset in generator.choice(SUBSETS, size=generator.integers(1, 8), replace=False)
    ]
    ranked = rank(trials)
    errors = np.array(
        [[c.estimate - truth[c.recipe], c.advantage - truth[c.recipe]] for c in ranked]
    )
    shrunk, plain = (errors**2).mean(axis=0)
    assert shrunk < 0.9 * plain


def test_an_easy_subset_does_not_make_a_recipe_good(recipes):
    easy_only, hard_only, *rest = recipes[:10]
    trials = [_trial(recipe, 0, 80.0) for recipe in rest]
    trials += [_trial(recipe, 1, 20.0) for recipe in rest]
    trials += [_trial(easy_only, 0, 80.0), _trial(hard_only, 1, 30.0)]
    assert rank(trials)[0].recipe == hard_only


def test_the_same_score_seen_again_is_no_further_visit(recipes):
    trials = [_trial(recipes[0], 2, 50.0)] * 5 + [_trial(recipes[0], 3, 50.0)]
    (candidate,) = rank(trials)
    assert candidate.visits == 2


def test_where_no_recipe_was_seen_twice_the_order_is_that_of_the_rewards(recipes):
    trials = [_trial(recipe, 0, float(i)) for i, recipe in enumerate(recipes[:8])]
    assert [candidate.recipe for candidate in rank(trials)] == recipes[7::-1]


@pytest.fixture
def study(bank, counting):
    return Study(Walk(bank.candidates), counting)


def _full(study):
    return [trial for trial in study.trials if trial.subsets is None]


def test_best_is_the_best_on_the_whole_split_not_the_luckiest(recipes, study, evaluator):
    full = {recipe: np.mean(list(evaluator.score(recipe).values())) for recipe in recipes[:12]}
    worst = min(full, key=full.__getitem__)
    study.trials += [_trial(recipe, 0, 90.0 if recipe == worst else 10.0) for recipe in full]
    scored = select(study, top=12)
    assert full[study.best().recipe] == max(full.values()) > full[worst]
    assert {trial.recipe: trial.mean for trial in scored} == pytest.approx(full)


def test_only_the_top_and_what_else_was_given_are_scored_and_paid_for(recipes, study, counting):
    study.trials += [_trial(recipe, 0, float(i)) for i, recipe in enumerate(recipes[:20])]
    scored = select(study, top=3, also=[recipes[0], recipes[19], None])
    assert [trial.recipe for trial in scored] == [recipes[19], recipes[18], recipes[17], recipes[0]]
    assert scored == _full(study)
    assert [request.recipe for request in counting.requests] == [one.recipe for one in scored]
    assert study.spent == 4 * study.full_cost


def test_a_top_that_cannot_be_paid_for_is_scored_as_far_as_it_goes(recipes, bank, counting):
    study = Study(Walk(bank.candidates), counting, budget=2 * counting.whole_cost() + 119)
    study.trials += [_trial(recipe, 0, float(i)) for i, recipe in enumerate(recipes[:5])]
    with pytest.raises(BudgetSpent):
        select(study, top=3)
    assert [trial.recipe for trial in _full(study)] == [recipes[4], recipes[3]]


def test_what_a_search_scored_whole_is_not_paid_for_again(recipes, study):
    study.trials += [_trial(recipe, 0, float(i)) for i, recipe in enumerate(recipes[:3])]
    select(study, top=3)
    select(study, top=3)
    assert study.spent == 3 * study.full_cost


def test_a_search_without_a_model_says_so(study):
    with pytest.raises(ValueError, match=r"no episode built a model.*maskable_ppo"):
        select(study, also=[None])
