"""scores.jsonl: no recipe is evaluated twice."""

from __future__ import annotations

import pytest

from merge_gym import Recipe
from merge_gym.evaluation.journal import Journal


@pytest.fixture
def file(tmp_path):
    return tmp_path / "scores.jsonl"


@pytest.fixture
def recipes(bank):
    return [Recipe.uniform(source, bank) for source in bank.sources]


def test_a_score_is_computed_once_for_each_recipe_split_and_subset(file, recipes, counting):
    with Journal(counting, file) as journal:
        for _ in range(2):
            for place in (("search", None), ("search", 1), ("search", 2), ("test", None)):
                for recipe in recipes:
                    journal.score(recipe, *place)
    assert counting.asked == 4 * len(recipes)


def test_scores_read_back_are_the_same_bits_and_cost_no_evaluation(file, recipes, counting):
    with Journal(counting, file) as journal:
        computed = [journal.score(recipe, subset=3) for recipe in recipes]
    asked = counting.asked
    with Journal(counting, file) as journal:
        assert [journal.score(recipe, subset=3) for recipe in recipes] == computed
    assert counting.asked == asked


def test_cost_is_that_of_the_evaluation(file, counting, evaluator):
    with Journal(counting, file) as journal:
        assert journal.cost("search", 1) == evaluator.cost("search", 1)


def test_torn_score_is_computed_again(file, recipes, counting):
    with Journal(counting, file) as journal:
        computed = [journal.score(recipe) for recipe in recipes]
    file.write_bytes(file.read_bytes()[:-5])
    asked = counting.asked
    for _ in range(2):
        with Journal(counting, file) as journal:
            assert [journal.score(recipe) for recipe in recipes] == computed
    assert counting.asked == asked + 1


def test_changing_an_answer_does_not_change_the_journal(file, recipes, counting):
    with Journal(counting, file) as journal:
        journal.score(recipes[0])["low"] = 2.0
        assert journal.score(recipes[0])["low"] <= 1
