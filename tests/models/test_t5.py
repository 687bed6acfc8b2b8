"""T5: two segments, and position biases that belong to no layer."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from merge_gym import LayerBank, Recipe
from merge_gym.assembly import assemble
from merge_gym.models import load_checkpoint
from merge_gym.models.parameters import SHARED
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

AUTO = transformers.AutoModelForSeq2SeqLM


@pytest.fixture(scope="module", params=["relu", "gated-gelu"])
def case(request, tmp_path_factory) -> FamilyCase:
    config = transformers.T5Config(
        vocab_size=30,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=3,
        num_decoder_layers=2,
        num_heads=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=6,
        feed_forward_proj=request.param,
        initializer_factor=0.5,
        decoder_start_token_id=0,
        tie_word_embeddings=request.param == "relu",
    )
    padded = padded_tokens()
    answers = padded_tokens()["input_ids"].flip(0)[:, :5]
    return write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: transformers.T5ForConditionalGeneration(config).save_pretrained(
            directory
        ),
        padded
        | {"decoder_input_ids": answers, "decoder_attention_mask": padded["attention_mask"][:, :5]},
    )


def test_t5_assembled_from_one_expert_equals_it(case):
    expert = AUTO.from_pretrained(case.suite.experts["one"].location)
    assert deviation_from_expert(case, expert) <= TOLERANCE


def test_t5_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


def test_t5_exports_reload_with_equal_logits(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, auto(AUTO))
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_t5_position_biases_are_shared_and_no_layer_has_its_own(case):
    bank = LayerBank(case.suite)
    for segment in ("encoder", "decoder"):
        name = f"{segment}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        assert name in bank.shared_tensors(bank.shared)
        first, second = (bank.layer(bank.shared, segment, index) for index in (0, 1))
        assert first.keys() == second.keys()


def test_t5_runs_without_any_encoder_or_decoder_layer(case):
    bank = LayerBank(case.suite)
    empty = Recipe(case.suite.digest, bank.shared, (("encoder", ()), ("decoder", ())))
    logits = assemble(empty, bank, "one")(**case.inputs).logits
    assert logits.shape == (3, 5, 30)


PUBLISHED = {  # what the config.json on the hub says, but for the number of layers
    "architectures": ["T5ForConditionalGeneration"],
    "d_kv": 64,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "n_positions": 512,
    "num_layers": 1,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "task_specific_params": {"summarization": {"prefix": "summarize: "}},
    "vocab_size": 32128,
}
SIZES = {
    "google-t5/t5-small": {"d_model": 512, "d_ff": 2048, "num_heads": 8},
    "google-t5/t5-base": {"d_model": 768, "d_ff": 3072, "num_heads": 12},
}


@pytest.mark.parametrize("name", SIZES)
def test_checkpoints_as_published_open(name: str, tmp_path) -> None:
    config = PUBLISHED | SIZES[name]
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**config)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[unused] = torch.zeros(32, config["num_heads"])  # a remnant of the first training code
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})

    checkpoint = load_checkpoint(str(tmp_path))
    assert checkpoint.config.decoder_start_token_id == 0
    assert checkpoint.config.scale_decoder_outputs
    assert {group[0] for group in checkpoint.parameters.layout.groups} == {"encoder", "decoder", ""}
    assert checkpoint.parameters.layout.size == sum(value.numel() for value in model.parameters())
    shared = checkpoint.parameters.group(SHARED)
    assert torch.equal(shared["shared.weight"], model.lm_head.weight)
    assert "lm_head.weight" not in shared
