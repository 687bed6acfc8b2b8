"""Architectures that no file of the library names."""

from __future__ import annotations

import logging

import pytest
import transformers

from merge_gym.models import adapter_for, generic, load_checkpoint
from merge_gym.models.adapter import ADAPTERS
from tests.models.family import (
    NARROW,
    TOLERANCE,
    FamilyCase,
    auto,
    deviation_from_expert,
    deviation_layer_by_layer,
    deviation_when_reloaded,
    padded_tokens,
    write_case,
)

SIZES = NARROW | {"max_position_embeddings": 12, "num_labels": 4}
CLASSIFIER = transformers.AutoModelForSequenceClassification
LANGUAGE = transformers.AutoModelForCausalLM
CLASSES = {
    "Electra": CLASSIFIER,
    "MPNet": CLASSIFIER,
    "DebertaV2": CLASSIFIER,
    "Longformer": CLASSIFIER,
    "OpenAIGPT": LANGUAGE,
    "GPTNeoX": LANGUAGE,
    "GPTNeo": LANGUAGE,
    "Gemma2": LANGUAGE,
    "SmolLM3": LANGUAGE,
}
GEMMA = {"head_dim": 8, "num_key_value_heads": 1, "layer_types": ["sliding_attention"] * 3}
SETTINGS = {
    "DebertaV2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
    },
    "Longformer": {"attention_window": [4, 8, 4]},
    "GPTNeo": {"attention_types": [[["global", "local"], 1], [["local"], 1]], "window_size": 3},
    "Gemma2": GEMMA,
    "SmolLM3": {"num_key_value_heads": 1, "no_rope_layers": [1, 0, 1]},
}
PATHS = {
    "Electra": ("electra.encoder.layer", ("classifier.",)),
    "MPNet": ("mpnet.encoder.layer", ("classifier.",)),
    "DebertaV2": ("deberta.encoder.layer", ("pooler.", "classifier.", "dropout.")),
    "Longformer": ("longformer.encoder.layer", ("classifier.",)),
    "OpenAIGPT": ("transformer.h", ()),
    "GPTNeoX": ("gpt_neox.layers", ()),
    "GPTNeo": ("transformer.h", ()),
    "Gemma2": ("model.layers", ()),
    "SmolLM3": ("model.layers", ()),
}
LISTS = {
    "GPTNeo": ("attention_layers", ["local"], ["local", "global", "global"]),
    "Longformer": ("attention_window", [4], [4, 4, 4]),
    "SmolLM3": ("no_rope_layers", [1], [1, 1, 1]),
}


def small_config(name: str, **more: object) -> transformers.PretrainedConfig:
    return getattr(transformers, f"{name}Config")(**SIZES | SETTINGS.get(name, {}) | more)


def model_class(name: str) -> type:
    kind = CLASSES[name].__name__.removeprefix("AutoModelFor")
    own = {"OpenAIGPT": "OpenAIGPTLMHeadModel"}
    return getattr(transformers, own.get(name, f"{name}For{kind}"))


@pytest.fixture(scope="module", autouse=True)
def without_adapters_of_their_own():
    """A family that has been given a file of its own is opened here as if it had none."""
    types = [getattr(transformers, f"{name}Config").model_type for name in CLASSES]
    own = {name: ADAPTERS.pop(name) for name in types if name in ADAPTERS}
    yield
    ADAPTERS.update(own)


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


@pytest.mark.parametrize("name", LISTS)
def test_lists_with_an_entry_for_each_layer_follow_the_layers(name, tmp_path):
    entry, skipped, stacked = LISTS[name]
    model_class(name)(small_config(name)).save_pretrained(tmp_path)
    config = load_checkpoint(str(tmp_path)).config
    resized = adapter_for(config)
    assert getattr(resized.config({"layers": [2]}, config), entry) == skipped
    assert getattr(resized.config({"layers": [2, 0, 0]}, config), entry) == stacked


def test_generic_refuses_a_model_without_repeated_layers():
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], architectures=["ResNetModel"]
    )
    with pytest.raises(ValueError, match=r"no nn\.ModuleList of like-shaped layers"):
        adapter_for(config)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("XLM", r"transformer\.layer_norm1\.3"),
        ("Flaubert", r"transformer\.layer_norm1\.3"),
        ("Esm", r"esm\.contact_head\.regression"),
    ],
)
def test_generic_refuses_a_model_of_which_more_changes_with_the_number_of_layers(name, tensor):
    config = getattr(transformers, f"{name}Config")(
        **SIZES, mask_token_id=5, architectures=[f"{name}ForSequenceClassification"]
    )
    with pytest.raises(ValueError, match=f"holds {tensor}.* beside its layers"):
        adapter_for(config)


def test_generic_refuses_layers_of_several_kinds():
    kinds = {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    config = small_config("Gemma2", **kinds)
    with pytest.raises(ValueError, match=r"several kinds \(layer_types: full_attention, sliding"):
        adapter_for(config)


def test_generic_refuses_a_model_type_that_does_not_go_with_its_class():
    config = transformers.ElectraConfig(**SIZES, architectures=["ViTForImageClassification"])
    with pytest.raises(ValueError, match="'electra', which ViTForImageClassification is not made"):
        adapter_for(config)
