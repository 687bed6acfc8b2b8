"""The plain evaluator against a count made by hand with plain transformers."""

import numpy as np
import pytest
import torch
from transformers import ViTForImageClassification

from merge_gym import LayerBank, Recipe, ReferenceEvaluator, Request
from merge_gym.evaluation.scorer import NOTHING


def fractions(suite, suite_file, expert, rows, split="search"):
    """What the expert's own checkpoint gets right on its own task, counted one by one."""
    model = ViTForImageClassification.from_pretrained(suite_file.parent / expert).eval()
    examples = suite.tasks[expert].splits[split]
    right = 0
    for row in rows:
        with torch.no_grad():
            logits = model(examples.inputs["pixel_values"][row : row + 1]).logits
        right += int(logits.argmax() == examples.labels[row])
    return right / len(rows)


@pytest.mark.parametrize("split", ["search", "test"])
def test_an_experts_recipe_scores_what_the_expert_gets_right(suite, suite_file, split):
    rows = range(60 if split == "search" else 80)
    for expert in ("low", "high"):
        evaluator = ReferenceEvaluator(LayerBank(suite, shared=expert))
        scores = evaluator.score(Recipe.uniform(expert, evaluator.bank), split)
        assert scores[expert] == fractions(suite, suite_file, expert, rows, split)


def test_a_subsets_score_counts_its_examples_only(suite, suite_file):
    evaluator = ReferenceEvaluator(LayerBank(suite, shared="low"), subsets=4)
    recipe = Recipe.uniform("low", evaluator.bank)
    labels = suite.tasks["low"].splits["search"].labels.numpy()
    by_class = np.argsort(labels, kind="stable")
    for subset in range(4):
        rows = np.sort(by_class[subset::4])
        score = evaluator.score(recipe, subset=subset)["low"]
        assert score == fractions(suite, suite_file, "low", rows)


def test_the_whole_split_is_the_mean_of_its_equal_subsets(evaluator, bank):
    recipe = Recipe.from_actions([0, 3, 1], bank)
    whole = evaluator.score(recipe)
    for task in whole:
        parts = [evaluator.score(recipe, subset=subset)[task] for subset in range(6)]
        assert np.mean(parts) == pytest.approx(whole[task])


def test_scores_do_not_depend_on_the_batch_size(bank, evaluator):
    recipe = Recipe.from_actions([0, 3, 1], bank)
    one_by_one = ReferenceEvaluator(bank, batch_size=1)
    assert one_by_one.score(recipe) == evaluator.score(recipe)


def test_values_are_each_examples_metric(evaluator, bank):
    recipe = Recipe.from_actions([0, 3, 1], bank)
    values = evaluator.values(recipe, "test")
    assert [(value.shape, value.dtype) for value in values.values()] == 2 * [((80,), np.float32)]
    scores = evaluator.score(recipe, "test")
    assert {task: value.mean(dtype=np.float64) for task, value in values.items()} == scores


def test_a_score_repeats_exactly(evaluator, bank):
    recipe = Recipe.from_actions([4, 4, 4], bank)
    assert evaluator.score(recipe) == evaluator.score(recipe)


def test_cost_counts_the_examples_of_all_tasks(evaluator):
    assert evaluator.whole_cost() == 2 * 60
    assert evaluator.whole_cost("test") == 2 * 80
    assert evaluator.cost(Request(NOTHING, subsets=(0,))) == 2 * 10
    assert evaluator.cost(Request(NOTHING, subsets=3, tasks=("low",))) == 3 * 10


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"split": "train"}, r"unknown split 'train'.*search, test"),
        ({"split": "test", "subset": 0}, r"only the search split has subsets, got split='test'"),
        ({"subset": 6}, "from 0 to 5, got 6"),
        ({"subset": -1}, "from 0 to 5, got -1"),
    ],
)
def test_a_split_or_subset_that_is_not_there_is_refused(evaluator, bank, where, message):
    recipe = Recipe.uniform("low", bank)
    with pytest.raises(ValueError, match=message):
        evaluator.score(recipe, **where)
    subset = where.get("subset")
    request = Request(recipe, where.get("split", "search"), None if subset is None else (subset,))
    with pytest.raises(ValueError, match=message):
        evaluator.cost(request)


@pytest.mark.parametrize("subsets", [0, 61])
def test_more_subsets_than_examples_are_refused(bank, subsets):
    with pytest.raises(ValueError, match=rf"between 1 and the 60 examples .* got {subsets}"):
        ReferenceEvaluator(bank, subsets=subsets)


def test_a_device_that_is_not_there_is_refused(bank):
    with pytest.raises(ValueError, match=r"device 'hpu' is not there.*device='cpu'"):
        ReferenceEvaluator(bank, device="hpu")
