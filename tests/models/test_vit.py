"""Vision Transformers of transformers."""

from __future__ import annotations

import pytest
import torch
import transformers

from tests.models.family import (
    TOLERANCE,
    FamilyCase,
    auto,
    changed_by_final,
    components,
    deviation_from_expert,
    deviation_layer_by_layer,
    deviation_of_features,
    deviation_of_scaled_branches,
    deviation_when_reloaded,
    write_case,
)

AUTO = transformers.AutoModelForImageClassification


@pytest.fixture(scope="module", params=["ViT", "DeiT"])
def case(request, tmp_path_factory) -> FamilyCase:
    config = getattr(transformers, f"{request.param}Config")(
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=5,
        initializer_range=0.2,
    )
    model_class = getattr(transformers, f"{request.param}ForImageClassification")
    return write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: model_class(config).save_pretrained(directory),
        {"pixel_values": torch.randn(4, 1, 8, 8)},
    )


def test_vit_assembled_from_one_expert_equals_it(case):
    expert = AUTO.from_pretrained(case.suite.experts["one"].location)
    assert deviation_from_expert(case, expert) <= TOLERANCE


def test_vit_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


def test_vit_exports_reload_with_equal_logits(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, auto(AUTO))
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_vit_layers_are_attention_mlp_and_rest(case):
    assert components(case) == {
        "attention": {f"attention.{name}_proj" for name in "qkvo"},
        "mlp": {"mlp.fc1", "mlp.fc2"},
        "rest": {"layernorm_before", "layernorm_after"},
    }


def test_vit_writes_scale_both_branches(case):
    assert deviation_of_scaled_branches(case, "attention", "mlp") <= TOLERANCE


def test_vit_final_tensors_are_read_after_the_last_layer_only(case):
    assert changed_by_final(case) == {"logits"}


def test_vit_head_reads_its_features(case):
    assert deviation_of_features(case) == 0
