"""What a search is charged: each example of a recipe once, all of a batch or nothing."""

from __future__ import annotations

import pytest

from merge_gym import Request
from merge_gym.spaces.walk import Walk
from merge_gym.studies.budget import Budget, BudgetSpent
from merge_gym.studies.study import Study

WHOLE, SUBSET = 2 * 60, 2 * 10  # two tasks of 60 examples, in six subsets


@pytest.fixture(scope="module")
def recipes(bank):
    return [bank.uniform(source) for source in bank.candidates.sources]


@pytest.fixture
def budget(evaluator):
    return Budget(None, evaluator)


def test_each_example_of_a_recipe_is_paid_once_whatever_it_is_asked_for_with(budget, recipes):
    one, other = recipes[:2]
    asked = [
        (Request(one, subsets=(2,), tasks=("low",)), SUBSET // 2),
        (Request(one, subsets=(2,)), SUBSET // 2),
        (Request(one, subsets=3), 2 * SUBSET),
        (Request(one), WHOLE - 3 * SUBSET),
        (Request(one, subsets=6), 0),
        (Request(one, tasks=("high",)), 0),
        (Request(other, tasks=("high",)), WHOLE // 2),
        (Request(other), WHOLE // 2),
    ]
    for request, cost in asked:
        assert budget.charge([request]) == [cost]
    assert budget.spent == 2 * WHOLE


def test_a_batch_pays_what_its_requests_share_once(budget, recipes):
    one, other = recipes[:2]
    batch = [Request(one, subsets=2), Request(one), Request(one), Request(other)]
    assert budget.charge(batch) == [2 * SUBSET, WHOLE - 2 * SUBSET, 0, WHOLE]
    assert budget.spent == 2 * WHOLE


def test_a_batch_that_cannot_be_paid_for_is_not_charged_at_all(evaluator, recipes):
    budget = Budget(2 * WHOLE - 1, evaluator)
    batch = [Request(recipes[0]), Request(recipes[1])]
    with pytest.raises(BudgetSpent, match=f"0 of {2 * WHOLE - 1} .* needs {2 * WHOLE}"):
        budget.charge(batch)
    assert budget.spent == 0
    assert budget.charge(batch[:1]) == [WHOLE]


def test_the_last_example_can_be_spent_and_what_is_kept_back_cannot(evaluator, recipes):
    budget = Budget(WHOLE, evaluator)
    budget.kept_back = 1
    with pytest.raises(BudgetSpent):
        budget.charge([Request(recipes[0])])
    budget.kept_back = 0
    assert budget.charge([Request(recipes[0])]) == [WHOLE]
    assert budget.charge([Request(recipes[0])]) == [0]
    with pytest.raises(BudgetSpent):
        budget.charge([Request(recipes[1], subsets=(0,), tasks=("low",))])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split": "test"}, "search split only"),
        ({"subsets": (6,)}, "from 0 to 5"),
        ({"tasks": ("none",)}, "unknown task"),
        ({"subsets": (1, 1)}, "once each"),
    ],
)
def test_what_is_not_there_is_refused_and_charged_nothing(budget, recipes, settings, words):
    with pytest.raises(ValueError, match=words):
        budget.charge([Request(recipes[0]), Request(recipes[0], **settings)])
    assert budget.spent == 0


def test_a_budget_of_nothing_is_refused(evaluator):
    with pytest.raises(ValueError, match="at least 1 example, got 0"):
        Budget(0, evaluator)


def test_a_studys_trials_say_what_each_was_charged_and_all_that_was_spent_by_then(bank, evaluator):
    study = Study(Walk(bank.candidates), evaluator, budget=3 * WHOLE)
    low, high, average, *_ = study.space.starts().values()
    study.evaluate(low, 2)
    trials = study.evaluate_all([low, high, low])
    assert [trial.charged for trial in trials] == [WHOLE - 2 * SUBSET, WHOLE, 0]
    assert [trial.spent for trial in trials] == [WHOLE, 2 * WHOLE, 2 * WHOLE]
    with pytest.raises(BudgetSpent):
        study.evaluate_all([average, high, study.space.starts()["ties(density=0.5)"]])
    assert (study.spent, len(study.trials)) == (2 * WHOLE, 4)
    assert study.evaluate(average).spent == study.spent == 3 * WHOLE
