"""The engine against the reference, on random recipes of the tiny suite."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merge_gym import Evaluator, Layer, LayerBank, Recipe, ReferenceEvaluator, Request, Source
from merge_gym.evaluation.calibration import Setting
from merge_gym.evaluation.scorer import NOTHING
from tests.evaluation.recipes import random_recipes, recipes, scaled_recipes

SUBSETS = 6
SMALL = 64 * 3 * 5 * 16 * 4 * 64 // 55 + 1
"""Just enough for one recipe of the tiny suite: chunk × layers × tokens × width × 4 bytes are 55 of
64 parts."""

places = st.sampled_from([("search", None), ("search", 0), ("search", 5), ("test", None)])
several = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def reference(bank):
    return ReferenceEvaluator(bank, subsets=SUBSETS)


@pytest.fixture(scope="module")
def engine(bank):
    return Evaluator(bank, subsets=SUBSETS)


@pytest.fixture(scope="module")
def plain(bank):
    return Evaluator(bank, subsets=SUBSETS, fused=False)


@pytest.fixture(scope="module")
def small(bank):
    return Evaluator(bank, subsets=SUBSETS, fused=False, cache_bytes=SMALL)


@several
@given(data=st.data(), place=places)
def test_plain_logits_equal_the_references_to_the_bit(bank, reference, plain, data, place):
    recipe = data.draw(recipes(bank))
    for task in bank.suite.tasks:
        expected = reference.logits(recipe, task, *place)
        assert torch.equal(plain.logits(recipe, task, *place), expected)


@several
@given(data=st.data(), place=places)
def test_evicting_at_every_recipe_changes_no_bit(bank, reference, small, data, place):
    recipe = data.draw(recipes(bank))
    for task in bank.suite.tasks:
        expected = reference.logits(recipe, task, *place)
        assert torch.equal(small.logits(recipe, task, *place), expected)


@several
@given(data=st.data(), place=places)
def test_fused_logits_are_within_the_tolerance_and_scores_equal(
    bank, reference, engine, data, place
):
    recipe = data.draw(recipes(bank))
    for task in bank.suite.tasks:
        expected = reference.logits(recipe, task, *place)
        torch.testing.assert_close(engine.logits(recipe, task, *place), expected, atol=1e-5, rtol=0)
    assert engine.score(recipe, *place) == reference.score(recipe, *place)


def test_examples_that_rounding_could_decide_go_the_plain_way(bank, monkeypatch):
    engine = Evaluator(bank, subsets=SUBSETS)
    monkeypatch.setattr("merge_gym.evaluation.engine.TOLERANCE", torch.inf)
    for recipe in random_recipes(bank, 5):
        for task in bank.suite.tasks:
            expected = ReferenceEvaluator(bank, subsets=SUBSETS).logits(recipe, task, "test")
            assert torch.equal(engine.logits(recipe, task, "test"), expected)


def test_the_plain_path_runs_the_batches_of_the_reference(bank, plain, monkeypatch):
    monkeypatch.setattr("merge_gym.evaluation.engine.PLAIN", Setting(13, convolved=False))
    examples = len(bank.suite.tasks["low"].splits["test"].labels)
    *sizes, last = [len(chunk) for chunk in plain._deal("low", "test", None)]
    assert sizes == [13] * (examples // 13)
    assert last == examples % 13


def test_values_are_the_per_example_metrics_and_read_only(bank, reference, engine):
    recipe = Recipe.uniform("ties", bank)
    for task, values in engine.values(recipe, subset=2).items():
        np.testing.assert_array_equal(values, reference.values(recipe, subset=2)[task])
        assert not values.flags.writeable


def test_a_score_asked_for_twice_runs_no_layer(bank, engine):
    recipe = Recipe.from_actions([0, 2, 4], bank)
    first = engine.score(recipe, subset=1)
    before = (engine.counts.full, engine.counts.last)
    assert engine.score(recipe, subset=1) == first
    assert (engine.counts.full, engine.counts.last) == before


def test_recipes_share_the_layers_of_their_common_prefix(bank):
    engine = Evaluator(bank, subsets=SUBSETS)
    examples = engine.cost(Request(NOTHING, subsets=(0,)))
    engine.score(Recipe.from_actions([0, 1, 2], bank), subset=0)
    engine.score(Recipe.from_actions([0, 1, 3], bank), subset=0)
    engine.score(Recipe.from_actions([0, 4, 3], bank), subset=0)
    counts = engine.counts
    assert (counts.asked, counts.full, counts.last) == (
        9 * examples,
        3 * examples,
        3 * examples,
    )


def test_subsets_and_splits_do_not_share_hidden_states(bank, reference, engine):
    recipe = Recipe.uniform("average", bank)
    for place in [("search", 0), ("search", 1), ("search", None), ("test", None)]:
        assert engine.score(recipe, *place) == reference.score(recipe, *place)


def test_candidates_of_equal_weights_share_their_hidden_states(suite):
    bank = LayerBank(suite, operators=[{"name": "task_arithmetic", "weight": 0.0}, "average"])
    engine = Evaluator(bank, subsets=SUBSETS)
    twins = [bank.source({"name": "dare", "density": 1.0, "seed": seed}) for seed in (0, 1)]
    engine.score(bank.candidates.repeated(twins[0]), subset=0)
    before = engine.counts.full + engine.counts.last
    engine.score(bank.candidates.repeated(twins[1]), subset=0)
    assert engine.counts.full + engine.counts.last == before


def test_weights_are_the_banks_own_tensors(bank, engine):
    layer = Recipe.uniform("average", bank).segments[0][1][0]
    module = engine._modules.layer("layers", layer)
    tensors = bank.layer("layers", layer)
    for name, parameter in module.named_parameters():
        assert parameter.data_ptr() == tensors[name].data_ptr()


def test_a_bank_on_the_host_gives_the_same_bits(bank, reference):
    engine = Evaluator(bank, subsets=SUBSETS, fused=False, placement="host")
    for recipe in random_recipes(bank, 10):
        for task in bank.suite.tasks:
            expected = reference.logits(recipe, task, subset=0)
            assert torch.equal(engine.logits(recipe, task, subset=0), expected)
    assert not len(engine._modules._modules)


def test_modules_within_a_small_budget_go_and_score_the_same_again(suite, reference):
    engine = Evaluator(LayerBank(suite, bank_bytes=2**19), subsets=SUBSETS)
    for recipe in random_recipes(engine.bank, 20):
        assert engine.score(recipe, subset=1) == reference.score(recipe, subset=1)
        assert engine._modules._modules.used <= 2**17


@several
@given(data=st.data())
def test_recipes_with_components_and_scales_score_as_the_reference_does(
    bank, reference, engine, plain, data
):
    recipe = data.draw(scaled_recipes(bank))
    assert engine.score(recipe, subset=0) == reference.score(recipe, subset=0)
    for task in bank.suite.tasks:
        expected = reference.logits(recipe, task, subset=0)
        assert torch.equal(plain.logits(recipe, task, subset=0), expected)


def test_nested_subsets_cost_only_what_is_new(bank, reference):
    engine = Evaluator(bank, subsets=SUBSETS)
    recipe = Recipe.from_actions([0, 3, 1], bank)
    three = engine.evaluate([Request(recipe, subsets=3)])[0]
    executed = engine.counts.full + engine.counts.last
    whole = engine.evaluate([Request(recipe)])[0]
    assert engine.counts.full + engine.counts.last == 2 * executed
    expected = reference.evaluate([Request(recipe, subsets=3), Request(recipe)])
    for ours, theirs in zip((three, whole), expected, strict=True):
        assert ours.cost == theirs.cost
        for task in bank.suite.tasks:
            np.testing.assert_array_equal(ours.values[task], theirs.values[task])


def test_all_subsets_together_are_the_whole_split(bank, engine, reference):
    recipe = Recipe.from_actions([1, 3, 1], bank)
    for scorer in (engine, reference):
        together, whole = scorer.evaluate([Request(recipe, subsets=SUBSETS), Request(recipe)])
        assert together.scores == whole.scores
        for task in bank.suite.tasks:
            np.testing.assert_array_equal(together.values[task], whole.values[task])


def test_some_tasks_alone_are_scored(bank, engine):
    recipe = Recipe.from_actions([1, 3, 1], bank)
    one, both = engine.evaluate([Request(recipe, tasks=("high",)), Request(recipe)])
    assert one.scores == {"high": both.scores["high"]}
    assert one.cost == both.cost / 2
    with pytest.raises(ValueError, match=r"unknown task 'hihg'.*Did you mean 'high'"):
        engine.evaluate([Request(recipe, tasks=("hihg",))])


def test_a_list_of_recipes_is_scored_in_its_order(bank, engine):
    several_recipes = random_recipes(bank, 12)
    scores = engine.score(several_recipes, subset=1)
    assert scores == [engine.score(recipe, subset=1) for recipe in several_recipes]


def test_another_final_norm_runs_no_layer_again(bank):
    engine = Evaluator(bank, subsets=SUBSETS)
    recipe = Recipe.from_actions([1, 3, 1], bank)
    ((_, stem),) = bank.candidates.shared
    engine.score(recipe, subset=0)
    full = engine.counts.full
    other = (("stem", stem), ("norm", Source.expert("high")))
    changed = dataclasses.replace(recipe, shared=other)
    expected = ReferenceEvaluator(bank, subsets=SUBSETS).score(changed, subset=0)
    assert engine.score(changed, subset=0) == expected
    assert engine.counts.full == full


def test_logits_that_are_no_numbers_score_0_and_that_is_said(bank, caplog):
    engine = Evaluator(bank, subsets=SUBSETS)
    high = Layer.of(0, Source.expert("high"), scale=1e30)
    recipe = Recipe(bank.suite.digest, bank.candidates.shared, (("layers", (high, high, high)),))
    for scorer in (engine, ReferenceEvaluator(bank, subsets=SUBSETS)):
        assert set(scorer.score(recipe, subset=0).values()) == {0.0}
        assert "score 0: their logits are no numbers" in caplog.text
        caplog.clear()


def test_an_unknown_placement_is_refused(bank):
    with pytest.raises(ValueError, match="device, host or None, got 'disk'"):
        Evaluator(bank, placement="disk")


def test_a_budget_too_small_for_one_prefix_is_refused_with_the_least_that_does(bank):
    with pytest.raises(ValueError, match=rf"={SMALL - 2} does not hold .* at least {SMALL}"):
        Evaluator(bank, subsets=SUBSETS, cache_bytes=SMALL - 2, fused=False)
    Evaluator(bank, subsets=SUBSETS, cache_bytes=SMALL, fused=False)


def test_all_that_is_remembered_fits_the_budget(bank):
    engine = Evaluator(bank, subsets=SUBSETS, cache_bytes=2**20)
    for number, recipe in enumerate(random_recipes(bank, 200)):
        engine.score(recipe, subset=number % SUBSETS)
    slabs = sum(cache.slab.nbytes for cache in engine._caches.values())
    assert slabs + engine._memo.budget + engine._stems.budget <= 2**20
    assert engine._memo.used <= engine._memo.budget


def test_a_device_that_is_not_there_is_refused(bank):
    for evaluator in (Evaluator, ReferenceEvaluator):
        with pytest.raises(ValueError, match=r"device '\w+' is not there .* device='cpu'"):
            evaluator(bank, device="rocket")


def test_an_unknown_dtype_is_refused(bank):
    with pytest.raises(ValueError, match="Did you mean 'bfloat16'"):
        Evaluator(bank, dtype="bfloat")


def test_half_precision_scores_are_near_the_references(bank, reference):
    engine = Evaluator(bank, subsets=SUBSETS, dtype="bfloat16")
    recipe = Recipe.uniform("average", bank)
    for task, score in engine.score(recipe).items():
        assert abs(score - reference.score(recipe)[task]) < 0.1


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("serch", None), "Did you mean 'search'"),
        (("search", 6), "from 0 to 5"),
        (("test", 0), "only the search split"),
    ],
)
def test_a_place_that_is_not_there_is_refused(bank, reference, engine, place, words):
    recipe = Recipe.uniform("average", bank)
    for evaluator in (reference, engine):
        with pytest.raises(ValueError, match=words):
            evaluator.score(recipe, *place)


def test_a_recipe_of_another_suite_is_refused(bank, engine):
    recipe = Recipe("0" * 16, bank.candidates.shared, Recipe.uniform("average", bank).segments)
    with pytest.raises(ValueError, match="0000000000000000"):
        engine.score(recipe)
