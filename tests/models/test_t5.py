"""T5: two segments, and position biases that belong to no layer."""

from __future__ import annotations

import pytest
import transformers

from merge_gym import LayerBank, Recipe
from merge_gym.assembly import assemble
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
