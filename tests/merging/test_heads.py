"""Calibrated heads: ridge regression against brute force, scores against exported models."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import ViTForImageClassification

import merge_gym
from merge_gym import Evaluator, LayerBank, Recipe, ReferenceEvaluator, Request
from merge_gym.merging.heads import STRENGTHS, ridge
from merge_gym.recipe import Calibration
from tests.tiny import two_segment_suite

CALIBRATION = Calibration(examples=40)


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    noise = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    return given, given @ torch.ones(6, 4, dtype=torch.float64) + 3 + noise


def fitted_without(given, wanted, row, strength):
    """Ridge regression on all rows but one, by the normal equations, at the whole's penalty."""
    unit = float((torch.linalg.svdvals(given - given.mean(0)) ** 2).mean())
    kept = [place for place in range(len(given)) if place != row]
    x, y = given[kept], wanted[kept]
    ones = torch.cat([x, torch.ones(len(kept), 1, dtype=x.dtype)], 1)
    penalty = torch.diag(torch.tensor([strength * unit] * 6 + [0.0], dtype=x.dtype))
    solved = torch.linalg.solve(ones.T @ ones + penalty, ones.T @ y)
    return given[row] @ solved[:-1] + solved[-1]


def test_the_strength_is_the_best_by_leaving_one_out(problem):
    given, wanted = problem
    errors = {
        strength: float(
            torch.stack(
                [
                    (fitted_without(given, wanted, row, strength) - wanted[row]) ** 2
                    for row in range(len(given))
                ]
            ).mean()
        )
        for strength in STRENGTHS
    }
    best = min(errors, key=errors.__getitem__)
    found, expected = ridge(given, wanted, None), ridge(given, wanted, best)
    torch.testing.assert_close(found, expected)
    others = [ridge(given, wanted, strength).mapping for strength in STRENGTHS if strength != best]
    assert not any(torch.allclose(found.mapping, other) for other in others)
    left_out = [fitted_without(given, wanted, row, best) for row in range(len(given))]
    torch.testing.assert_close(found.left_out, torch.stack(left_out))


def test_without_a_ridge_it_is_least_squares(problem):
    given, wanted = problem
    mapping, offset, _ = ridge(given, wanted, 0.0)
    ones = torch.cat([given, torch.ones(30, 1, dtype=given.dtype)], 1)
    expected = torch.linalg.lstsq(ones, wanted).solution
    torch.testing.assert_close(mapping, expected[:-1])
    torch.testing.assert_close(offset, expected[-1])


def test_fewer_examples_than_features_need_a_ridge(problem):
    given, wanted = problem
    with pytest.raises(ValueError, match="6 examples do not determine a map from 6 features"):
        ridge(given[:6], wanted[:6], 0.0)
    ridge(given[:6], wanted[:6], 0.1)


@pytest.fixture(scope="module")
def calibrated(suite):
    bank = LayerBank(suite, heads=CALIBRATION)
    return Recipe.from_actions([0, 3, 1], bank), bank


def test_an_experts_own_trunk_keeps_its_scores(suite):
    bank = LayerBank(suite)
    recipe = Recipe.uniform("low", bank)
    scorer = ReferenceEvaluator(bank)
    own = scorer.score(recipe, "test")["low"]
    fitted = merge_gym.calibrate(recipe, suite, examples=60, ridge=1e-6)
    assert scorer.score(fitted, "test")["low"] == pytest.approx(own, abs=0.03)


def test_engine_and_reference_agree_on_calibrated_heads(calibrated):
    recipe, bank = calibrated
    engine, reference = Evaluator(bank, subsets=6), ReferenceEvaluator(bank, subsets=6)
    plain = Evaluator(bank, subsets=6, fused=False)
    for place in [("search", None), ("search", 2), ("test", None)]:
        assert engine.score(recipe, *place) == reference.score(recipe, *place)
        for task in bank.suite.tasks:
            expected = reference.logits(recipe, task, *place)
            assert torch.equal(plain.logits(recipe, task, *place), expected)
    own = dataclasses.replace(recipe, heads=None)
    assert engine.logits(own, "low").ne(engine.logits(recipe, "low")).any()


@torch.no_grad()
def test_the_export_is_what_was_scored(calibrated, tmp_path):
    recipe, bank = calibrated
    merge_gym.export(recipe, bank.suite, tmp_path / "merged")
    scorer = ReferenceEvaluator(bank)
    for task in bank.suite.tasks:
        model = ViTForImageClassification.from_pretrained(tmp_path / "merged" / task).eval()
        split = bank.suite.tasks[task].splits["test"]
        logits = model(**split.inputs).logits
        torch.testing.assert_close(logits, scorer.logits(recipe, task, "test"), atol=1e-5, rtol=0)
        right = (logits.argmax(-1) == split.labels).float().numpy()
        np.testing.assert_array_equal(right, scorer.values(recipe, "test")[task])


def test_labels_and_the_test_split_are_of_no_matter(calibrated, suite):
    recipe, _ = calibrated
    tasks = {
        name: dataclasses.replace(
            task,
            splits={
                "search": dataclasses.replace(
                    task.splits["search"], labels=task.splits["search"].labels.flip(0)
                ),
                "test": task.splits["search"],
            },
        )
        for name, task in suite.tasks.items()
    }
    other = dataclasses.replace(suite, tasks=tasks)
    logits = []
    for each in (suite, other):
        bank = LayerBank(each, heads=CALIBRATION)
        own = dataclasses.replace(recipe, suite=each.digest)
        logits.append(ReferenceEvaluator(bank, subsets=1).logits(own, "low"))
    torch.testing.assert_close(*logits)


def test_the_examples_are_counted(calibrated):
    recipe, bank = calibrated
    scorer = ReferenceEvaluator(bank, subsets=6)
    own = dataclasses.replace(recipe, heads=None)
    assert scorer.cost(Request(recipe)) == scorer.cost(Request(own)) + 2 * 40
    assert scorer.cost(Request(recipe, tasks=("low",))) == 60 + 40


def test_the_calibration_travels_by_value(calibrated):
    recipe, _ = calibrated
    data = json.loads(recipe.to_json())
    assert data["heads"] == {"calibrated": {"examples": 40, "ridge": None, "seed": 0}}
    assert Recipe.from_json(recipe.to_json()) == recipe
    for heads in (
        "mine",
        {"calibrated": 3},
        {"calibrated": {"examples": 1}},
        {"calibrated": {"x": 1}},
    ):
        with pytest.raises(ValueError, match=r"heads are|at least 2|to_json"):
            Recipe.from_json(json.dumps(data | {"heads": heads}))


def test_what_cannot_be_calibrated_is_refused(suite, bank):
    recipe = Recipe.uniform("low", bank)
    with pytest.raises(ValueError, match="has 60 examples in its search split, calibration asks"):
        merge_gym.calibrate(recipe, suite, examples=61)
    with pytest.raises(ValueError, match="has no tasks"):
        merge_gym.calibrate(recipe, two_segment_suite())
    with pytest.raises(ValueError, match="a ridge is at least 0"):
        Calibration(ridge=-1.0)
