"""peft adapters, merged into full weights when they are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from merge_gym.models import load_checkpoint

QUERY = "bert.encoder.layer.1.attention.self.query"
BERT = BertConfig(
    vocab_size=20,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
)


@pytest.fixture
def base(tmp_path) -> Path:
    torch.manual_seed(0)
    BertModel(BERT).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """A rank-2 update of one query projection, and a head of three classes."""
    torch.manual_seed(1)
    prefix = "base_model.model."
    return {
        f"{prefix}{QUERY}.lora_A.weight": torch.randn(2, 16),
        f"{prefix}{QUERY}.lora_B.weight": torch.randn(16, 2),
        f"{prefix}bert.pooler.dense.weight": torch.randn(16, 16),
        f"{prefix}bert.pooler.dense.bias": torch.randn(16),
        f"{prefix}classifier.weight": torch.randn(3, 16),
        f"{prefix}classifier.bias": torch.randn(3),
    }


def write_adapter(base: Path, tensors: dict[str, torch.Tensor], **settings: object) -> Path:
    directory = base.with_name("adapter")
    directory.mkdir()
    save_file(tensors, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(
        json.dumps(
            {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "base_model_name_or_path": str(base)}
            | settings
        )
    )
    return directory


@pytest.mark.parametrize(("rslora", "factor"), [(False, 8 / 2), (True, 8 / 2**0.5)])
def test_a_low_rank_update_is_added_to_its_matrix_only(base, tensors, rslora, factor):
    before = load_checkpoint(str(base), need_head=False)
    after = load_checkpoint(str(write_adapter(base, tensors, use_rslora=rslora)))
    down, up = list(tensors.values())[:2]
    for group in before.parameters.layout.groups:
        for name, value in before.parameters.group(group).items():
            changed = group == ("layers", 1) and name == "attention.self.query.weight"
            expected = value + factor * up @ down if changed else value
            torch.testing.assert_close(after.parameters.group(group)[name], expected)


def test_the_head_that_was_trained_beside_is_the_experts_head(base, tensors):
    expert = load_checkpoint(str(write_adapter(base, tensors)))
    assert torch.equal(
        expert.head["classifier.weight"], tensors["base_model.model.classifier.weight"]
    )
    assert expert.config.num_labels == 3


def test_an_adapter_without_a_head_is_no_expert_on_a_headless_base(base, tensors):
    low_rank = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    with pytest.raises(ValueError, match="adapter holds no complete task head"):
        load_checkpoint(str(write_adapter(base, low_rank)))


def test_the_tokenizer_may_lie_beside_the_base(base, tensors):
    (base / "tokenizer.json").write_text("{}")
    assert load_checkpoint(str(write_adapter(base, tensors))).processor == str(base)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "type IA3; only plain LoRA"),
        ({"use_dora": True}, "type LORA with use_dora; only plain LoRA"),
        ({"rank_pattern": {"query": 4}}, "with rank_pattern; only plain LoRA"),
        ({"base_model_name_or_path": None}, "names no base model"),
    ],
)
def test_an_adapter_that_is_no_plain_lora_is_refused(base, tensors, settings, message):
    with pytest.raises(ValueError, match=message):
        load_checkpoint(str(write_adapter(base, tensors, **settings)))


@pytest.mark.parametrize(
    "name", ["bert.encoder.layer.7.output.dense.lora_A.weight", "bert.pooler.lora_embedding_A"]
)
def test_an_adapter_of_another_model_is_refused_by_the_tensor(base, tensors, name):
    tensors[f"base_model.model.{name}"] = torch.zeros(2, 32)
    tensors[f"base_model.model.{name.replace('_A', '_B')}"] = torch.zeros(16, 2)
    with pytest.raises(ValueError, match=r"changes bert\.\S+, .*the model lacks or"):
        load_checkpoint(str(write_adapter(base, tensors)))


@pytest.mark.parametrize("rslora", [False, True])
def test_merging_agrees_with_peft(tmp_path, rslora):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = GPT2Config(n_positions=8, n_embd=16, n_layer=2, n_head=2, vocab_size=20)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    settings = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["c_attn"], use_rslora=rslora)
    model = peft.get_peft_model(GPT2LMHeadModel.from_pretrained(tmp_path / "base"), settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.save_pretrained(tmp_path / "adapter")
    ours = load_checkpoint(str(tmp_path / "adapter")).parameters
    theirs = model.merge_and_unload().state_dict()
    for index in range(2):
        for name, tensor in ours.group(("layers", index)).items():
            torch.testing.assert_close(tensor, theirs[f"transformer.h.{index}.{name}"])
