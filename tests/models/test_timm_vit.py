"""Vision Transformers of timm."""

from __future__ import annotations

import datasets
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageClassification, TimmWrapperConfig

from merge_gym.models import adapter_for
from merge_gym.suites.data import make_split
from tests.models.family import (
    TOLERANCE,
    FamilyCase,
    changed_by_final,
    components,
    deviation_from_expert,
    deviation_layer_by_layer,
    deviation_of_features,
    deviation_of_scaled_branches,
    deviation_when_reloaded,
    write_case,
)
from tests.tiny_timm import save_timm

timm = pytest.importorskip("timm")

ARCHITECTURES = [
    "vit_small_patch32_224",
    "vit_base_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",  # layer scale
    "vit_base_patch16_rpn_224",  # norms after the branches, mean of the tokens
]
PLAIN = """
import timm
load = lambda directory: timm.create_model("local-dir:" + directory, pretrained=True)
logits = lambda model, inputs: model(inputs["pixel_values"])
"""


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request, tmp_path_factory) -> FamilyCase:
    return write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: save_timm(directory, request.param),
        {"pixel_values": torch.randn(4, 3, 32, 32)},
    )


def test_timm_assembled_from_one_expert_equals_it(case):
    location = case.suite.experts["one"].location
    expert = timm.create_model(f"local-dir:{location}", pretrained=True)
    with torch.inference_mode():
        own = expert.eval()(case.inputs["pixel_values"])
        wrapped = AutoModelForImageClassification.from_pretrained(location)
        assert torch.equal(own, wrapped.eval()(**case.inputs).logits)
    assert deviation_from_expert(case, wrapped) <= TOLERANCE


def test_timm_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


def test_timm_exports_reload_with_equal_logits(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, PLAIN)
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_timm_heads_stay_each_experts_own(case):
    distilled = "distilled" in case.suite.pretrained.config.architecture
    names = ("head", "head_dist") if distilled else ("head",)
    assert case.suite.experts["one"].head.keys() == {
        f"timm_model.{name}.{kind}" for name in names for kind in ("weight", "bias")
    }


def test_timm_reads_grey_and_colour_images_of_any_size_in_its_three_channels(case):
    images = [Image.linear_gradient("L").resize(size) for size in ((50, 40), (50, 40), (20, 90))]
    images[1] = images[1].convert("RGB")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 2]}, features=features)
    columns = {"input": "image", "label": "label"}
    split = make_split(rows, columns, "accuracy", 128, case.suite.experts["one"])
    grey, colour, tall = split.inputs["pixel_values"]
    assert torch.equal(grey, colour)
    assert tall.shape == (3, 32, 32)


@pytest.fixture
def prenorm(case) -> FamilyCase:
    if "rpn" in case.suite.pretrained.config.architecture:
        pytest.skip("its norms follow the branches")
    return case


def test_timm_layers_are_attention_mlp_and_rest(prenorm):
    found = components(prenorm)
    assert found["attention"] == {"attn.qkv", "attn.proj"}
    assert found["mlp"] == {"mlp.fc1", "mlp.fc2"}
    assert found["rest"] - {"ls1.gamma", "ls2.gamma"} == {"norm1", "norm2"}


def test_timm_layers_with_norms_after_their_branches_are_taken_whole():
    config = TimmWrapperConfig(
        architecture="vit_base_patch16_rpn_224", model_args={"embed_dim": 24, "depth": 2}
    )
    adapter = adapter_for(config)
    assert (adapter.components, adapter.writes) == ({}, ())


def test_timm_writes_scale_both_branches(prenorm):
    assert deviation_of_scaled_branches(prenorm, "attn", "mlp") <= TOLERANCE


def test_timm_final_tensors_are_read_after_the_last_layer_only(case):
    assert changed_by_final(case) == {"logits"}


def test_timm_head_reads_its_features_unless_two_heads_read_a_token_each(case):
    if "distilled" in case.suite.pretrained.config.architecture:
        assert case.suite.adapter.features is None
    else:
        assert deviation_of_features(case) == 0
