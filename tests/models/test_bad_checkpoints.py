"""Checkpoints that cannot be merged: one clear error each, before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import (
    AutoConfig,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from merge_gym import load_suite
from merge_gym.models import load_checkpoint
from merge_gym.suites import loading

SIZES = {"n_positions": 8, "n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 20}


def save(directory: Path, **settings: object) -> None:
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**SIZES | settings)).save_pretrained(directory)
    (directory / "tokenizer.json").write_text("{}")


@pytest.fixture
def suite_file(tmp_path, monkeypatch) -> Path:
    """A suite of two GPT-2; reading any weights of it fails."""
    monkeypatch.setattr(loading, "load_checkpoint", lambda *_, **__: pytest.fail("read weights"))
    for name in ("pretrained", "expert"):
        save(tmp_path / name)
    task = {
        "expert": "expert",
        "columns": {"input": "text", "label": "label"},
        "data": {"search": "rows.jsonl", "test": "rows.jsonl"},
    }
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": 0}\n')
    description = {
        "name": "bad",
        "pretrained": "pretrained",
        "experts": {"expert": "expert"},
        "tasks": {"task": task},
    }
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(description))
    return tmp_path / "bad.yaml"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 23}, "vocab_size is 23 instead of 20"),
        ({"n_embd": 24}, "hidden_size is 24 instead of 16"),
        ({"n_head": 4}, "num_attention_heads is 4 instead of 2"),
        ({"activation_function": "relu"}, "activation_function is 'relu' instead of 'gelu_new'"),
        ({"layer_norm_epsilon": 1e-3}, "layer_norm_epsilon is 0.001 instead of 1e-05"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False instead of True"),
    ],
)
def test_an_expert_that_is_made_otherwise_is_refused_by_what_differs(suite_file, settings, message):
    save(suite_file.parent / "expert", **settings)
    with pytest.raises(
        ValueError, match=rf"expert 'expert': .*expert was not fine.*: {message}\. Name"
    ):
        load_suite(suite_file)


def test_an_expert_of_another_architecture_is_refused(suite_file):
    config = BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertForSequenceClassification(config).save_pretrained(suite_file.parent / "expert")
    with pytest.raises(ValueError, match=r"\): model_type is 'bert' instead of 'gpt2'\. Name"):
        load_suite(suite_file)


def test_a_missing_shard_is_refused_by_its_name(suite_file):
    expert = suite_file.parent / "expert"
    model = GPT2LMHeadModel.from_pretrained(expert)
    (expert / "model.safetensors").unlink()
    model.save_pretrained(expert, max_shard_size="10KB")
    shards = sorted(expert.glob("*-of-*.safetensors"))
    shards[1].unlink()
    with pytest.raises(
        OSError, match=rf"'expert': .*lacks {shards[1].name}, 1 of the {len(shards)} files"
    ):
        load_suite(suite_file)


def test_shards_are_read_as_one(suite_file):
    whole, parts = suite_file.parent / "expert", suite_file.parent / "parts"
    GPT2LMHeadModel.from_pretrained(whole).save_pretrained(parts, max_shard_size="10KB")
    assert len(list(parts.glob("*-of-*.safetensors"))) > 2
    one, other = load_checkpoint(str(whole)), load_checkpoint(str(parts))
    assert torch.equal(one.parameters.flat, other.parameters.flat)


def test_a_pickle_is_refused_with_the_command_that_converts_it(suite_file):
    expert = suite_file.parent / "expert"
    (expert / "model.safetensors").unlink()
    (expert / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        OSError,
        match=r"pytorch_model\.bin is pickle.*: python -m experiments\.convert "
        rf"{expert} {expert}-safe$",
    ):
        load_suite(suite_file)


def test_a_configuration_without_architecture_is_refused_with_the_same_command(suite_file):
    expert = suite_file.parent / "expert"
    config = json.loads((expert / "config.json").read_text())
    del config["model_type"]
    (expert / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"names no model_type.*convert .*--model-type bert, or"):
        load_suite(suite_file)


def test_a_model_that_wants_its_own_code_is_refused_and_no_code_runs(suite_file):
    expert = suite_file.parent / "expert"
    config = json.loads((expert / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (expert / "config.json").write_text(json.dumps(config))
    (expert / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match=r"wants its own code to be run .*refused"):
        load_suite(suite_file)


def test_an_expert_without_tokenizer_is_refused(suite_file):
    (suite_file.parent / "expert" / "tokenizer.json").unlink()
    with pytest.raises(OSError, match=r"'expert': .*neither tokenizer nor image processor"):
        load_suite(suite_file)


def test_a_name_that_is_neither_directory_nor_on_the_hub_is_refused():
    with pytest.raises(FileNotFoundError, match="no directory 'nobody/nothing', and no checkpoint"):
        load_checkpoint("nobody/nothing")


def test_half_precision_stays_as_it_is_on_disk(tmp_path):
    model = GPT2LMHeadModel(GPT2Config(**SIZES)).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(str(tmp_path))
    assert (checkpoint.dtype, checkpoint.parameters.flat.dtype) == ("BF16", torch.bfloat16)


def test_weights_that_contradict_the_configuration_on_tying_are_refused(tmp_path):
    save(tmp_path, tie_word_embeddings=False)
    AutoConfig.from_pretrained(tmp_path, tie_word_embeddings=True).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"do not fit its config\.json: .*lm_head"):
        load_checkpoint(str(tmp_path))
