"""peft adapters, merged into full weights when they are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from merge_gym.models import adapter_for, check_checkpoint, load_checkpoint
from merge_gym.models.parameters import SHARED

QUERY = "bert.encoder.layer.1.attention.self.query"
SIZES = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
BERT = BertConfig(**SIZES)


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
        ({"peft_type": "IA3"}, "is of type IA3: merge it with peft"),
        ({"use_dora": True}, "is no plain LoRA but has use_dora: merge it with peft"),
        ({"rank_pattern": {"query": 4}}, "has rank_pattern: merge"),
        ({"alora_invocation_tokens": [3, 4]}, "has alora_invocation_tokens: merge"),
        ({"layer_replication": [[0, 1], [0, 2]]}, "has layer_replication: merge"),
        ({"init_lora_weights": "pissa"}, "began as 'pissa', which changes the base model: merge"),
        ({"init_lora_weights": "pissa_niter_4"}, "began as 'pissa_niter_4', which changes"),
        ({"init_lora_weights": "olora"}, "began as 'olora', which changes the base model: merge"),
        ({"base_model_name_or_path": None}, "names no base_model_name_or_path"),
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


def test_what_an_adapter_saved_whole_has_the_bases_shape_unless_it_is_the_head(base, tensors):
    tensors["base_model.model.bert.embeddings.word_embeddings.weight"] = torch.zeros(21, 16)
    with pytest.raises(ValueError, match=r"word_embeddings.weight the shape \[21, 16\] instead of"):
        load_checkpoint(str(write_adapter(base, tensors)))


def test_the_base_may_be_told_and_need_not_lie_where_the_adapter_was_trained(base, tensors):
    adapter = write_adapter(base, tensors)
    named = load_checkpoint(str(adapter))
    assert torch.equal(
        load_checkpoint(str(adapter), base=str(base)).parameters.flat, named.parameters.flat
    )
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps(settings | {"base_model_name_or_path": "/home/of/another/model"})
    )
    told = load_checkpoint(str(adapter), base=str(base))
    assert torch.equal(told.parameters.flat, named.parameters.flat)
    assert check_checkpoint(str(adapter), base=str(base)).model_type == "bert"


def test_an_adapter_of_another_base_that_is_there_is_refused(base, tensors, tmp_path):
    adapter = write_adapter(base, tensors)
    other = shutil.copytree(base, tmp_path / "other")
    with pytest.raises(ValueError, match=r"peft adapter of .*base, but the pretrained .*other"):
        check_checkpoint(str(adapter), base=str(other))


def test_an_adapter_is_opened_in_the_class_that_it_was_trained_in(tmp_path):
    config = ElectraConfig(**SIZES, embedding_size=16)
    ElectraForPreTraining(config).save_pretrained(tmp_path / "base")
    prefix = "base_model.model.classifier"
    head = {
        f"{prefix}.dense.weight": torch.randn(16, 16),
        f"{prefix}.dense.bias": torch.randn(16),
        f"{prefix}.out_proj.weight": torch.randn(3, 16),
        f"{prefix}.out_proj.bias": torch.randn(3),
    }
    expert = load_checkpoint(str(write_adapter(tmp_path / "base", head, task_type="SEQ_CLS")))
    assert expert.config.architectures == ["ElectraForSequenceClassification"]
    assert len(expert.head) == 4
    assert expert.config.num_labels == 3


@pytest.mark.parametrize("both", [False, True])
def test_embeddings_that_are_tied_stay_so_or_the_adapter_is_refused(tmp_path, both):
    config = GPT2Config(n_positions=8, n_embd=16, n_layer=1, n_head=2, vocab_size=20)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    trained = torch.randn(20, 16)
    tensors = {"base_model.model.transformer.wte.weight": trained}
    if both:
        tensors["base_model.model.lm_head.weight"] = trained.clone()
    adapter = str(write_adapter(tmp_path / "base", tensors))
    if both:
        assert torch.equal(
            load_checkpoint(adapter).parameters.group(SHARED)["transformer.wte.weight"], trained
        )
    else:
        with pytest.raises(ValueError, match=r"trained transformer\.wte\.weight apart from"):
            load_checkpoint(adapter)


def against_peft(tmp_path: Path, model: PreTrainedModel, **settings: object) -> None:
    """Hold the merged weights of a random adapter against peft's own merging."""
    peft = pytest.importorskip("peft")
    model.save_pretrained(tmp_path / "base")
    base = type(model).from_pretrained(tmp_path / "base")
    tuned = peft.get_peft_model(base, peft.LoraConfig(**{"r": 3, "lora_alpha": 5} | settings))
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    tuned.save_pretrained(tmp_path / "adapter")
    ours = load_checkpoint(str(tmp_path / "adapter"))
    adapter = adapter_for(ours.config)
    theirs = tuned.merge_and_unload().state_dict()
    for (segment, index), slots in ours.parameters.layout.groups.items():
        for slot in slots:
            name = adapter.tensor_name(segment, index, slot.name) if segment else slot.name
            tensor = ours.parameters.group((segment, index))[slot.name]
            torch.testing.assert_close(tensor, theirs[name])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal", "r": 4},
        {"bias": "all"},
        {"bias": "lora_only"},
    ],
)
def test_merging_agrees_with_peft(tmp_path, settings):
    torch.manual_seed(0)
    config = GPT2Config(n_positions=8, n_embd=16, n_layer=2, n_head=2, vocab_size=20)
    against_peft(tmp_path, GPT2LMHeadModel(config), **{"target_modules": ["c_attn"]} | settings)


def test_merging_a_convolution_agrees_with_peft(tmp_path):
    torch.manual_seed(0)
    config = ViTConfig(**SIZES, image_size=8, patch_size=4)
    targets = ["projection", "q_proj"]
    against_peft(tmp_path, ViTForImageClassification(config), target_modules=targets)
