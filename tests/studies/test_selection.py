"""Which recipes a search's noisy rewards speak for."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from agents.episodes import EpisodeRecord
from merge_gym.studies.selection import rank, select

SUBSETS = 10


def _episode(recipe, subset, raw_reward):
    return EpisodeRecord(0, raw_reward, raw_reward, subset, 3, 10, {}, recipe, 0.1)


@pytest.fixture(scope="module")
def recipes(bank):
    takes = product(range(len(bank.sources)), repeat=3)
    return [bank.recipe(list(enumerate(take))) for take in takes]


@pytest.fixture(scope="module")
def noisy_search(recipes):
    """Rewards with noise of 5 points: most recipes seen once, one good recipe often."""
    generator = np.random.default_rng(0)
    good, lucky, *rest = recipes
    episodes = [
        _episode(recipe, subset, 50 + 2 * generator.normal() + 5 * generator.normal())
        for recipe in rest
        for subset in generator.choice(SUBSETS, size=2, replace=False)
    ]
    episodes += [_episode(good, subset, 55 + 5 * generator.normal()) for subset in range(SUBSETS)]
    return [*episodes, _episode(lucky, 0, 62)], good, lucky


def test_many_good_visits_come_before_one_lucky_one(noisy_search):
    episodes, good, lucky = noisy_search
    assert max(episodes, key=lambda episode: episode.raw_reward).recipe != good
    ranked = rank(episodes)
    places = {candidate.recipe: place for place, candidate in enumerate(ranked)}
    assert places[good] == 0 < places[lucky]
    by_recipe = {candidate.recipe: candidate for candidate in ranked}
    assert by_recipe[lucky].advantage > by_recipe[good].advantage


def test_estimates_are_nearer_the_truth_than_plain_means(recipes):
    generator = np.random.default_rng(1)
    truth = dict(zip(recipes, 4 * generator.normal(size=len(recipes)), strict=True))
    episodes = [
        _episode(recipe, subset, 50 + true + 5 * generator.normal())
        for recipe, true in truth.items()
        for subset in generator.choice(SUBSETS, size=generator.integers(1, 8), replace=False)
    ]
    ranked = rank(episodes)
    errors = np.array(
        [[c.estimate - truth[c.recipe], c.advantage - truth[c.recipe]] for c in ranked]
    )
    shrunk, plain = (errors**2).mean(axis=0)
    assert shrunk < 0.9 * plain


def test_an_easy_subset_does_not_make_a_recipe_good(recipes):
    easy_only, hard_only, *rest = recipes[:10]
    episodes = [_episode(recipe, 0, 80.0) for recipe in rest]
    episodes += [_episode(recipe, 1, 20.0) for recipe in rest]
    episodes += [_episode(easy_only, 0, 80.0), _episode(hard_only, 1, 30.0)]
    assert rank(episodes)[0].recipe == hard_only


def test_the_same_score_seen_again_is_no_further_visit(recipes):
    episodes = [_episode(recipes[0], 2, 50.0)] * 5 + [_episode(recipes[0], 3, 50.0)]
    (candidate,) = rank(episodes)
    assert candidate.visits == 2


def test_where_no_recipe_was_seen_twice_the_order_is_that_of_the_rewards(recipes):
    episodes = [_episode(recipe, 0, float(i)) for i, recipe in enumerate(recipes[:8])]
    assert [candidate.recipe for candidate in rank(episodes)] == recipes[7::-1]


def test_best_is_the_best_on_the_whole_split_not_the_luckiest(recipes, counting, evaluator):
    full = {recipe: np.mean(list(evaluator.score(recipe).values())) for recipe in recipes[:12]}
    worst = min(full, key=full.__getitem__)
    episodes = [_episode(recipe, 0, 90.0 if recipe == worst else 10.0) for recipe in full]
    selection = select(episodes, counting, top=12)
    assert full[selection.best] == max(full.values())
    means = [np.mean(list(scores.values())) for scores in selection.scores.values()]
    assert means == sorted(means, reverse=True)


def test_only_the_top_and_what_else_was_given_are_scored_and_paid_for(recipes, counting):
    episodes = [_episode(recipe, 0, float(i)) for i, recipe in enumerate(recipes[:20])]
    selection = select(episodes, counting, top=3, also=[recipes[0], recipes[19], None])
    assert set(selection.scores) == {recipes[0], recipes[17], recipes[18], recipes[19]}
    assert counting.asked == 4
    assert selection.evaluation_cost == 4 * counting.cost("search")


def test_invalid_episodes_count_for_nothing(recipes):
    invalid = EpisodeRecord(0, -10.0, -10.0, None, 0, 0, {}, None, 0.1)
    scored = [_episode(recipes[0], 0, 40.0), _episode(recipes[1], 0, 60.0)]
    assert rank([invalid, *scored, invalid]) == rank(scored)


def test_a_search_without_a_model_says_so(counting):
    invalid = EpisodeRecord(0, -10.0, -10.0, None, 0, 0, {}, None, 0.1)
    with pytest.raises(ValueError, match="none of the 1 episodes built a model"):
        select([invalid], counting, also=[None])
