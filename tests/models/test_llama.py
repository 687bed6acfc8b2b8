"""Decoders laid out as Llama is."""

from __future__ import annotations

import pytest
import torch
import transformers

from merge_gym import LayerBank, Recipe
from merge_gym.merging.assembly import assemble
from merge_gym.recipe import Layer, whole
from tests.models.family import (
    TOLERANCE,
    FamilyCase,
    auto,
    changed_by_final,
    components,
    deviation_from_expert,
    deviation_layer_by_layer,
    deviation_of_scaled_branches,
    deviation_when_reloaded,
    padded_tokens,
    write_case,
)

AUTO = transformers.AutoModelForCausalLM

MODELS = {
    "Llama": {"tie_word_embeddings": True},
    "Mistral": {"sliding_window": 3},
    "Qwen2": {
        "use_sliding_window": True,
        "sliding_window": 3,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "Qwen3": {"head_dim": 8},
}


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory) -> FamilyCase:
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=30,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=12,
        initializer_range=0.3,
        **MODELS[request.param],
    )
    model_class = getattr(transformers, f"{request.param}ForCausalLM")
    return write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: model_class(config).save_pretrained(directory),
        padded_tokens(),
    )


def test_llama_assembled_from_one_expert_equals_it(case):
    expert = AUTO.from_pretrained(case.suite.experts["one"].location)
    assert deviation_from_expert(case, expert) <= TOLERANCE


def test_llama_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


def test_llama_exports_reload_with_equal_logits(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, auto(AUTO))
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_llama_like_layers_keep_their_kind_of_attention_and_are_numbered_anew(case):
    bank = LayerBank(case.suite)
    one = bank.source("one")
    recipe = Recipe(
        case.suite.digest, whole(one), (("layers", (Layer.of(1, one), Layer.of(1, one))),)
    )
    model = assemble(recipe, bank, "one")
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1]
    if kinds := getattr(case.suite.pretrained.config, "layer_types", None):
        assert model.config.layer_types == [kinds[1], kinds[1]]


def test_llama_generates_with_its_cache_after_stacking(case):
    bank = LayerBank(case.suite)
    one = bank.source("one")
    recipe = Recipe(
        case.suite.digest, whole(one), (("layers", (Layer.of(2, one), Layer.of(0, one))),)
    )
    model = assemble(recipe, bank, "one")
    prompt = case.inputs["input_ids"][:1]
    cached, plain = (
        model.generate(prompt, max_new_tokens=4, do_sample=False, use_cache=cache)
        for cache in (True, False)
    )
    assert torch.equal(cached, plain)


def test_llama_layers_are_attention_mlp_and_rest(case):
    found = components(case)
    norms = {"self_attn.q_norm", "self_attn.k_norm"}
    assert found["attention"] - norms == {f"self_attn.{name}_proj" for name in "qkvo"}
    assert found["attention"] >= norms or case.suite.pretrained.config.model_type != "qwen3"
    assert found["mlp"] == {f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    assert found["rest"] == {"input_layernorm", "post_attention_layernorm"}


def test_llama_writes_scale_both_branches(case):
    assert deviation_of_scaled_branches(case, "self_attn", "mlp") <= TOLERANCE


def test_llama_final_tensors_are_read_after_the_last_layer_only(case):
    assert changed_by_final(case) == {"logits"}
