"""Checkpoints as other tools leave them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageClassification, GPT2Config, GPT2LMHeadModel

from merge_gym.models import load_checkpoint
from tests.models.test_bad_checkpoints import SIZES


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    GPT2LMHeadModel(GPT2Config(**SIZES)).save_pretrained(tmp_path / "checkpoint-200")
    return tmp_path / "checkpoint-200"


def rewrite(checkpoint: Path, **changes: object) -> None:
    file = checkpoint / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "compressed-tensors"])
def test_quantised_weights_are_refused_by_their_method(checkpoint, method):
    rewrite(checkpoint, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(ValueError, match=rf"holds quantised weights \({method}: .*plain ones"):
        load_checkpoint(str(checkpoint))


def test_the_folder_of_a_trainer_is_refused_by_its_last_checkpoint(checkpoint):
    (checkpoint.parent / "checkpoint-90").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"2 checkpoints of a Trainer: .* {checkpoint}$"):
        load_checkpoint(str(checkpoint.parent))


def test_a_folder_with_a_model_beside_its_checkpoints_opens(checkpoint):
    GPT2LMHeadModel.from_pretrained(checkpoint).save_pretrained(checkpoint.parent)
    assert load_checkpoint(str(checkpoint.parent)).location == str(checkpoint.parent)


def test_timm_counts_classes_among_the_arguments_too(tmp_path):
    pytest.importorskip("timm")
    from tests.tiny_timm import SIZES as ARGUMENTS
    from tests.tiny_timm import save_timm

    save_timm(tmp_path / "plain", "vit_small_patch32_224")
    before = load_checkpoint(str(tmp_path / "plain"))
    rewrite(tmp_path / "plain", model_args={**ARGUMENTS, "num_classes": 5})
    after = load_checkpoint(str(tmp_path / "plain"))
    assert after.config.num_labels == 5
    assert torch.equal(before.parameters.flat, after.parameters.flat)
    model = AutoModelForImageClassification.from_config(after.config)
    assert model.timm_model.head.out_features == 5
