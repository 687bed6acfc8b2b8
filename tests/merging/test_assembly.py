"""A recipe put together as an ordinary transformers model."""

import dataclasses

import pytest
import torch
from transformers import ViTForImageClassification

from merge_gym import Layer, LayerBank, Recipe, Source
from merge_gym.merging.assembly import assemble
from merge_gym.recipe import whole
from tests.tiny import two_segment_suite

SKIP, BACK = 5, 6


@pytest.fixture(scope="module")
def pixels(suite):
    return suite.tasks["low"].splits["test"].inputs["pixel_values"][:8]


@torch.no_grad()
def logits(model, pixels):
    return model(pixel_values=pixels).logits


def original(suite_file, expert):
    return ViTForImageClassification.from_pretrained(suite_file.parent / expert).eval()


@pytest.mark.parametrize("expert", ["low", "high"])
def test_a_model_of_one_expert_alone_is_that_expert(suite, suite_file, pixels, expert):
    bank = LayerBank(suite, shared=expert)
    merged = assemble(Recipe.uniform(expert, bank), bank, task=expert)
    expected = logits(original(suite_file, expert), pixels)
    torch.testing.assert_close(logits(merged, pixels), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("actions", "layers"),
    [
        ([0, 0, 0], [0, 1, 2]),
        ([0, SKIP, 0], [0, 2]),
        ([0, 0, BACK, 0, 0], [0, 1, 1, 2]),
        ([0, 0, BACK, BACK, 0, 0, BACK, 0, SKIP], [0, 1, 0, 1, 1]),
        ([SKIP, SKIP, SKIP], []),
    ],
    ids=["plain", "skip", "stack", "stack and skip", "empty"],
)
def test_skipped_and_stacked_layers_run_in_the_recipes_order(
    suite, suite_file, pixels, actions, layers
):
    """Against the expert's own layers, called one by one."""
    bank = LayerBank(suite, shared="low")
    expert = original(suite_file, "low")
    merged = assemble(Recipe.from_actions(actions, bank), bank, task="low")
    with torch.no_grad():
        hidden = expert.vit.embeddings(pixels)
        for layer in layers:
            hidden = expert.vit.layers[layer](hidden)
        expected = expert.classifier(expert.vit.layernorm(hidden)[:, 0])
    assert merged.config.num_hidden_layers == len(layers)
    torch.testing.assert_close(logits(merged, pixels), expected, rtol=0, atol=1e-6)


def test_layers_of_different_sources_stand_where_the_recipe_puts_them(suite, suite_file, bank):
    merged = assemble(Recipe.from_actions([1, 3, 0], bank), bank, task="high").state_dict()
    low, high = (original(suite_file, expert).state_dict() for expert in ("low", "high"))
    name = "mlp.fc1.weight"
    ties = bank.layer("layers", Layer.of(1, bank.candidates.sources[3]))
    assert torch.equal(merged[f"vit.layers.0.{name}"], high[f"vit.layers.0.{name}"])
    assert torch.equal(merged[f"vit.layers.1.{name}"], ties[name])
    assert torch.equal(merged[f"vit.layers.2.{name}"], low[f"vit.layers.2.{name}"])


def test_each_task_gets_its_own_head_on_the_same_trunk(suite, suite_file, bank):
    recipe = Recipe.uniform("average", bank)
    models = {task: assemble(recipe, bank, task).state_dict() for task in ("low", "high")}
    for name, tensor in models["low"].items():
        assert torch.equal(tensor, models["high"][name]) == (not name.startswith("classifier"))
    head = original(suite_file, "high").state_dict()["classifier.weight"]
    assert torch.equal(models["high"]["classifier.weight"], head)


def test_changing_a_model_changes_neither_bank_nor_experts(suite):
    bank = LayerBank(suite)
    recipe = Recipe.from_actions([0, 3, 1], bank)
    before = {source: bank.parameters(source).flat.clone() for source in bank.candidates.sources}
    head = suite.experts["low"].head["classifier.weight"].clone()
    model = assemble(recipe, bank, "low")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1)
    assert all(torch.equal(bank.parameters(source).flat, flat) for source, flat in before.items())
    assert torch.equal(suite.experts["low"].head["classifier.weight"], head)
    assert not torch.equal(next(assemble(recipe, bank, "low").parameters()), torch.tensor(1.0))


def test_assembling_leaves_the_random_state_alone(bank):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assemble(Recipe.uniform("low", bank), bank, "low")
    assert torch.equal(torch.rand(1), expected)


def test_the_model_is_in_evaluation_mode_and_float32(bank):
    model = assemble(Recipe.uniform("low", bank), bank, "low")
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_recipe_of_another_suite_is_refused(bank):
    foreign = Recipe.uniform("low", LayerBank(two_segment_suite()))
    with pytest.raises(ValueError, match="load the recipe's own suite"):
        assemble(foreign, bank, "low")


def test_an_expert_without_its_head_is_refused_with_the_tensors(suite):
    headless = dataclasses.replace(suite.experts["low"], head={})
    bank = LayerBank(dataclasses.replace(suite, experts={**suite.experts, "low": headless}))
    with pytest.raises(ValueError, match=r"no classifier\.bias, classifier\.weight for task 'low'"):
        assemble(Recipe.uniform("low", bank), bank, "low")


def test_a_source_that_the_suite_lacks_is_refused_by_name(bank):
    recipe = Recipe.uniform("low", bank)
    unknown = Recipe(recipe.suite, whole(Source.expert("middle")), recipe.segments)
    with pytest.raises(ValueError, match=r"unknown expert 'middle'.*Known: high, low"):
        assemble(unknown, bank, "low")
