"""DINOv2, with registers or without."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from merge_gym import LayerBank
from merge_gym.exports.checkpoints import export
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
    recipes,
    write_case,
)

AUTO = transformers.AutoModelForImageClassification
MODELS = {
    "plain": ("Dinov2", {}),
    "gated": ("Dinov2", {"use_swiglu_ffn": True}),
    "registers": ("Dinov2WithRegisters", {"num_register_tokens": 2}),
}


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory) -> FamilyCase:
    name, settings = MODELS[request.param]
    config = getattr(transformers, f"{name}Config")(
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_labels=5,
        initializer_range=0.2,
        layerscale_value=0.7,
        **settings,
    )
    model_class = getattr(transformers, f"{name}ForImageClassification")
    return write_case(
        tmp_path_factory.mktemp(name),
        lambda directory: model_class(config).save_pretrained(directory),
        {"pixel_values": torch.randn(4, 1, 8, 8)},
    )


def test_dinov2_assembled_from_one_expert_equals_it(case):
    expert = AUTO.from_pretrained(case.suite.experts["one"].location)
    assert deviation_from_expert(case, expert) <= TOLERANCE


def test_dinov2_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


def test_dinov2_exports_reload_with_equal_logits(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, auto(AUTO))
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_dinov2_stages_follow_the_depth(case, tmp_path):
    export(recipes(LayerBank(case.suite))["skipped"], case.suite, tmp_path / "export")
    config = json.loads((tmp_path / "export" / "one" / "config.json").read_text())
    stages = (config["stage_names"], config["out_features"], config["out_indices"])
    assert stages == (["stem", "stage1"], ["stage1"], [1])


def test_dinov2_layers_are_attention_mlp_and_rest(case):
    found = components(case)
    assert found["attention"] == {f"attention.{name}_proj" for name in "qkvo"}
    gated = {f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    assert found["mlp"] in ({"mlp.fc1", "mlp.fc2"}, gated)
    scales = {"layer_scale1.lambda1", "layer_scale2.lambda1"}
    assert found["rest"] == {"norm1", "norm2"} | scales


def test_dinov2_writes_scale_both_branches(case):
    assert deviation_of_scaled_branches(case, "layer_scale1", "layer_scale2") <= TOLERANCE


def test_dinov2_final_tensors_are_read_after_the_last_layer_only(case):
    assert changed_by_final(case) == {"logits"}


def test_dinov2_head_reads_its_features(case):
    assert deviation_of_features(case) == 0
