"""GPT-2 as a language model."""

from __future__ import annotations

import pytest
import transformers

from merge_gym import LayerBank, Source
from merge_gym.models import adapter_for
from merge_gym.recipe import whole
from tests.models.family import (
    TOLERANCE,
    FamilyCase,
    auto,
    changed_by_final,
    components,
    deviation_from_expert,
    deviation_layer_by_layer,
    deviation_of_scaled_branches,
    deviation_when_reloaded,
    padded_tokens,
    write_case,
)

AUTO = transformers.AutoModelForCausalLM

SIZES = {"vocab_size": 30, "n_positions": 12, "n_embd": 16, "n_layer": 3, "n_head": 2}


@pytest.fixture(scope="module", params=["tied", "untied"])
def case(request, tmp_path_factory) -> FamilyCase:
    config = transformers.GPT2Config(
        **SIZES, initializer_range=0.3, tie_word_embeddings=request.param == "tied"
    )
    return write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: transformers.GPT2LMHeadModel(config).save_pretrained(directory),
        padded_tokens(),
    )


def test_gpt2_assembled_from_one_expert_equals_it(case):
    expert = AUTO.from_pretrained(case.suite.experts["one"].location)
    assert deviation_from_expert(case, expert) <= TOLERANCE


def test_gpt2_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


def test_gpt2_exports_reload_with_equal_logits(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, auto(AUTO))
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_gpt2_with_scores_divided_by_the_layer_number_is_refused():
    config = transformers.GPT2Config(**SIZES, scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(ValueError, match="scale_attn_by_inverse_layer_idx"):
        adapter_for(config)


def test_gpt2_output_matrix_is_a_tensor_of_its_own_only_where_it_is_untied(case):
    shared = LayerBank(case.suite).shared_tensors(whole(Source.expert("one")))
    untied = not case.suite.pretrained.config.tie_word_embeddings
    assert ("lm_head.weight" in shared) == untied


def test_gpt2_layers_are_attention_mlp_and_rest(case):
    assert components(case) == {
        "attention": {"attn.c_attn", "attn.c_proj"},
        "mlp": {"mlp.c_fc", "mlp.c_proj"},
        "rest": {"ln_1", "ln_2"},
    }


def test_gpt2_writes_scale_both_branches(case):
    assert deviation_of_scaled_branches(case, "resid_dropout", "mlp") <= TOLERANCE


def test_gpt2_final_tensors_are_read_after_the_last_layer_only(case):
    assert changed_by_final(case) == {"logits"}
