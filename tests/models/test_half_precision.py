"""Checkpoints in bfloat16 and float16 stay what they are, from disk to disk."""

from __future__ import annotations

import pytest
import torch
import transformers
from safetensors.torch import load_file

from merge_gym import LayerBank, Recipe, export
from tests.models.family import (
    FamilyCase,
    deviation_when_reloaded,
    padded_tokens,
    write_case,
)

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
PLAINLY = """
from transformers import AutoModelForCausalLM
load = lambda place: AutoModelForCausalLM.from_pretrained(place)
logits = lambda model, inputs: model(**inputs).logits
"""


@pytest.fixture(scope="module", params=DTYPES)
def case(request, tmp_path_factory) -> FamilyCase:
    config = transformers.GPT2Config(vocab_size=30, n_positions=12, n_embd=16, n_layer=3, n_head=2)

    def save(directory):
        model = transformers.GPT2LMHeadModel(config).to(DTYPES[request.param])
        model.save_pretrained(directory)

    return write_case(tmp_path_factory.mktemp(request.param), save, padded_tokens())


def test_an_export_holds_the_experts_very_bits(case, tmp_path):
    recipe = Recipe.uniform("one", LayerBank(case.suite, shared="one"))
    target = export(recipe, case.suite, tmp_path / "export")
    ours = load_file(target / "model.safetensors")
    theirs = load_file(f"{case.suite.experts['one'].location}/model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(
        ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor)
        for name, tensor in theirs.items()
    )


def test_what_is_scored_is_what_is_exported(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, PLAINLY)
    assert max(deviations.values()) == 0, deviations
