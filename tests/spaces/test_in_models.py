"""What spaces spell, in models: the engine scores it as the reference does, and it reloads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from merge_gym import Evaluator, LayerBank, ReferenceEvaluator, spaces
from merge_gym.exports.checkpoints import checkpoint_places, export
from merge_gym.merging.assembly import assemble
from tests.models.family import TOLERANCE, padded_tokens, write_case

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.3,
}
IMAGES = {"pixel_values": torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))}
FAMILIES = {
    "ViT": ("ImageClassification", {"image_size": 8, "patch_size": 4, "num_channels": 1}, IMAGES),
    "Bert": ("SequenceClassification", {"vocab_size": 30}, padded_tokens()),
    "Llama": ("CausalLM", {"vocab_size": 30, "num_key_value_heads": 1}, padded_tokens()),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A tiny suite of a family, and the Auto class that opens its exports."""
    kind, settings, inputs = FAMILIES[request.param]
    config = getattr(transformers, f"{request.param}Config")(**SIZES, **settings)
    model_class = getattr(transformers, f"{request.param}For{kind}")
    case = write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: model_class(config).save_pretrained(directory),
        inputs,
    )
    return case, getattr(transformers, f"AutoModelFor{kind}")


OF_RECIPES = [name for name in spaces.available() if name != "modular"]  # which spells libraries


@pytest.mark.parametrize("name", OF_RECIPES)
@torch.inference_mode()
def test_what_a_space_spells_scores_as_the_reference_does_and_reloads(family, name, tmp_path):
    case, auto = family
    bank = LayerBank(case.suite)
    space = spaces.make(name, bank.candidates)
    generator = np.random.default_rng(0)
    drawn = (space.sample(generator) for _ in range(100))
    recipe = next(space.recipe(decisions) for decisions in drawn if space.valid(decisions))
    reference = ReferenceEvaluator(bank, subsets=1)
    expected = reference.logits(recipe, "one")
    assert torch.equal(Evaluator(bank, subsets=1, fused=False).logits(recipe, "one"), expected)
    if case.suite.adapter.head:
        assert Evaluator(bank, subsets=1).score(recipe) == reference.score(recipe)
    export(recipe, case.suite, tmp_path / "merged")
    places = checkpoint_places(case.suite, tmp_path / "merged")
    reloaded = auto.from_pretrained(places["one"]).eval()
    here = assemble(recipe, bank, "one")
    deviation = (reloaded(**case.inputs).logits - here(**case.inputs).logits).abs().max()
    assert deviation <= TOLERANCE * max(1.0, float(expected.abs().max()))
