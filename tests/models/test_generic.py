"""Architectures that no file of the library names."""

from __future__ import annotations

import logging

import pytest
import transformers

from merge_gym.models import adapter_for, generic
from merge_gym.models.adapter import ADAPTERS
from tests.models.family import (
    TOLERANCE,
    FamilyCase,
    auto,
    deviation_from_expert,
    deviation_layer_by_layer,
    deviation_when_reloaded,
    padded_tokens,
    write_case,
)

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
    "initializer_range": 0.3,
    "num_labels": 4,
    "pad_token_id": 1,
}
GEMMA = {"head_dim": 8, "num_key_value_heads": 1, "layer_types": ["sliding_attention"] * 3}
CLASSES = {
    "Electra": transformers.AutoModelForSequenceClassification,
    "MPNet": transformers.AutoModelForSequenceClassification,
    "GPTNeoX": transformers.AutoModelForCausalLM,
    "Gemma2": transformers.AutoModelForCausalLM,
}
PATHS = {
    "Electra": ("electra.encoder.layer", ("classifier.",)),
    "MPNet": ("mpnet.encoder.layer", ("classifier.",)),
    "GPTNeoX": ("gpt_neox.layers", ()),
    "Gemma2": ("model.layers", ()),
}


def small_config(name: str) -> transformers.PretrainedConfig:
    return getattr(transformers, f"{name}Config")(**SIZES, **(GEMMA if name == "Gemma2" else {}))


def model_class(name: str) -> type:
    kind = CLASSES[name].__name__.removeprefix("AutoModel")
    return getattr(transformers, f"{name}{kind}")


@pytest.fixture(scope="module", params=CLASSES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def case(name, tmp_path_factory) -> FamilyCase:
    config = small_config(name)
    return write_case(
        tmp_path_factory.mktemp(name),
        lambda directory: model_class(name)(config).save_pretrained(directory),
        padded_tokens(),
    )


def test_generic_finds_the_layers_and_the_head_and_says_so(name, case, caplog):
    config = case.suite.pretrained.config
    assert config.model_type not in ADAPTERS
    generic._say.cache_clear()
    with caplog.at_level(logging.WARNING):
        adapter = adapter_for(config)
    path, head = PATHS[name]
    assert (adapter.stacks["layers"].path, adapter.segments, adapter.head) == (
        path,
        {"layers": 3},
        head,
    )
    assert f"taking the 3 modules in {path} as its layers" in caplog.text


def test_generic_assembled_from_one_expert_equals_it(name, case):
    expert = CLASSES[name].from_pretrained(case.suite.experts["one"].location)
    assert deviation_from_expert(case, expert) <= TOLERANCE


def test_generic_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


def test_generic_exports_reload_with_equal_logits(name, case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, auto(CLASSES[name]))
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_generic_refuses_a_model_without_repeated_layers():
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], architectures=["ResNetModel"]
    )
    with pytest.raises(ValueError, match=r"no nn\.ModuleList of like-shaped layers"):
        adapter_for(config)


def test_generic_refuses_layers_of_several_kinds():
    kinds = {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    config = transformers.Gemma2Config(**SIZES, **GEMMA | kinds)
    with pytest.raises(ValueError, match=r"several kinds \(layer_types: full_attention, sliding"):
        adapter_for(config)


def test_generic_refuses_a_model_type_that_does_not_go_with_its_class():
    config = transformers.ElectraConfig(**SIZES, architectures=["ViTForImageClassification"])
    with pytest.raises(ValueError, match="'electra', which ViTForImageClassification is not made"):
        adapter_for(config)
