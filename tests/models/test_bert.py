"""BERT, RoBERTa and DistilBERT for sequence classification."""

from __future__ import annotations

import pytest
import torch
import transformers

from merge_gym.merging.assembly import assemble
from tests.models.family import (
    TOLERANCE,
    FamilyCase,
    auto,
    components,
    deviation_from_expert,
    deviation_layer_by_layer,
    deviation_of_features,
    deviation_of_scaled_branches,
    deviation_of_scaled_outputs,
    deviation_when_reloaded,
    padded_tokens,
    recipes,
    write_case,
)

AUTO = transformers.AutoModelForSequenceClassification

MODELS = {
    "Bert": {},
    "Roberta": {"pad_token_id": 1},
    "XLMRoberta": {"pad_token_id": 1},
    "DistilBert": {"pad_token_id": 1, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
}
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "type_vocab_size": 2,
}


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory) -> FamilyCase:
    settings = MODELS[request.param] | (SIZES if request.param != "DistilBert" else {})
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=30,
        max_position_embeddings=12,
        num_labels=4,
        initializer_range=0.3,
        **settings,
    )
    model_class = getattr(transformers, f"{request.param}ForSequenceClassification")
    inputs = padded_tokens()
    if request.param == "Bert":
        inputs["token_type_ids"] = (torch.arange(7) > 3).long().expand(3, 7)
    return write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: model_class(config).save_pretrained(directory),
        inputs,
    )


def test_bert_assembled_from_one_expert_equals_it(case):
    expert = AUTO.from_pretrained(case.suite.experts["one"].location)
    assert deviation_from_expert(case, expert) <= TOLERANCE


def test_bert_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("masks", ["bool", "added", "none"])
def test_bert_last_layer_at_the_first_token_equals_the_whole_layer_there(case, masks):
    """Masks are bool with torch's own attention and numbers to be added with the eager one."""
    adapter = case.suite.adapter
    for recipe in recipes(case.bank).values():
        model = assemble(recipe, case.bank, "one")
        model.set_attn_implementation("eager" if masks == "added" else "sdpa")
        inputs = dict(case.inputs)
        if masks == "none":
            inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
        hidden, mask = adapter.enter(model, "layers", inputs, None)
        assert {"bool": torch.bool, "added": torch.float32}.get(masks) == getattr(
            mask, "dtype", None
        )
        for module in adapter.layers(model)["layers"]:
            whole = adapter.layer(module, hidden, mask)
            first = adapter.last_layer(module, hidden, mask)
            assert first.shape == (len(hidden), 1, 16)
            torch.testing.assert_close(first[:, 0], whole[:, 0], atol=1e-5, rtol=0)
            hidden = whole


def test_bert_exports_reload_with_equal_logits(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, auto(AUTO))
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_bert_layers_are_attention_mlp_and_rest(case):
    found = components(case)
    assert found.keys() == {"attention", "mlp", "rest"}
    assert len(found["attention"]) == 4
    assert len(found["mlp"]) == len(found["rest"]) == 2
    assert all("norm" in name.lower() for name in found["rest"])


def test_bert_writes_scale_both_branches(case):
    distilled = case.suite.pretrained.config.model_type == "distilbert"
    branches = ("attention", "ffn") if distilled else ("n.output.dropout", "output.dropout")
    assert deviation_of_scaled_branches(case, *branches) <= TOLERANCE


def test_bert_output_norm_scales_a_layers_output(case):
    assert deviation_of_scaled_outputs(case) <= TOLERANCE


def test_bert_head_reads_its_features(case):
    assert deviation_of_features(case) == 0
