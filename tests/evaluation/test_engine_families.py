"""The engine on other architectures: an encoder with masks, a decoder, and both with context."""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from merge_gym import Evaluator, LayerBank, ReferenceEvaluator
from tests.evaluation.recipes import recipes
from tests.models.family import padded_tokens, write_case

SIZES = {"vocab_size": 30}
ENCODER = {
    **SIZES,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
    "num_labels": 3,
}
BERT = transformers.BertConfig(**ENCODER)
ROBERTA = transformers.RobertaConfig(**ENCODER, pad_token_id=1)
DISTILBERT = transformers.DistilBertConfig(
    **SIZES, dim=16, n_layers=2, n_heads=2, hidden_dim=32, initializer_range=0.3, num_labels=3
)
GPT2 = transformers.GPT2Config(**SIZES, n_embd=16, n_layer=2, n_head=2, n_positions=16)
T5 = transformers.T5Config(
    **SIZES,
    d_model=16,
    d_kv=8,
    d_ff=32,
    num_layers=2,
    num_heads=2,
    relative_attention_num_buckets=8,
    decoder_start_token_id=0,
)
ANSWERS = {"decoder_input_ids": padded_tokens()["input_ids"].flip(0)[:, :5]}


def untied_t5(config: transformers.T5Config) -> transformers.T5ForConditionalGeneration:
    """As T5 1.1 and FLAN have it."""
    model = transformers.T5ForConditionalGeneration(config)
    model.lm_head = torch.nn.Linear(config.d_model, config.vocab_size, bias=False)
    return model


FAMILIES = {
    "bert": (transformers.BertForSequenceClassification, BERT, {}),
    "roberta": (transformers.RobertaForSequenceClassification, ROBERTA, {}),
    "distilbert": (transformers.DistilBertForSequenceClassification, DISTILBERT, {}),
    "gpt2": (transformers.GPT2LMHeadModel, GPT2, {}),
    "t5": (transformers.T5ForConditionalGeneration, T5, ANSWERS),
    "t5-untied": (untied_t5, T5, ANSWERS),
}


@pytest.fixture(scope="module", params=list(FAMILIES))
def bank(request, tmp_path_factory):
    model, config, inputs = FAMILIES[request.param]
    case = write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: model(config).save_pretrained(directory),
        padded_tokens() | inputs,
    )
    return LayerBank(case.suite)


@pytest.fixture(scope="module")
def evaluators(bank):
    small = 64 * sum(size * 7 * 16 * 4 for size in bank.candidates.segments.values()) * 64 // 55 + 1
    return (
        ReferenceEvaluator(bank, subsets=1),
        Evaluator(bank, subsets=1, fused=False),
        Evaluator(bank, subsets=1, fused=False, cache_bytes=small),
    )


@pytest.fixture(scope="module")
def fused(bank):
    return Evaluator(bank, subsets=1)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_plain_logits_equal_the_references_to_the_bit(bank, evaluators, data):
    recipe = data.draw(recipes(bank))
    reference, *engines = evaluators
    for task in bank.suite.tasks:
        expected = reference.logits(recipe, task)
        for engine in engines:
            assert torch.equal(engine.logits(recipe, task), expected)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_fused_logits_are_within_the_tolerance_and_scores_equal(bank, evaluators, fused, data):
    recipe = data.draw(recipes(bank))
    for task in bank.suite.tasks:
        expected = evaluators[0].logits(recipe, task)
        torch.testing.assert_close(fused.logits(recipe, task), expected, atol=1e-5, rtol=0)
    if bank.suite.adapter.head:
        assert fused.score(recipe) == evaluators[0].score(recipe)


def test_classifiers_of_texts_run_the_last_layer_for_the_first_token_only(bank):
    engine = Evaluator(bank, subsets=1)
    engine.logits(bank.candidates.recipe([(0, 0), (1, 1)]), "one")
    last = 3 if bank.suite.adapter.head else 0
    assert engine.counts.last == last


def test_a_decoder_prefix_is_kept_apart_for_every_encoder(tmp_path):
    model, config, inputs = FAMILIES["t5"]
    case = write_case(
        tmp_path,
        lambda directory: model(config).save_pretrained(directory),
        padded_tokens() | inputs,
    )
    bank = LayerBank(case.suite)
    engine = Evaluator(bank, subsets=1, fused=False)
    for encoder in (0, 1):
        engine.logits(bank.candidates.recipe([(0, encoder), (1, 0), (2, 0), (3, 0)]), "one")
    assert engine.counts.full == 2 * 4 * 3
    engine.logits(bank.candidates.recipe([(0, 0), (1, 0), (2, 0), (3, 1)]), "one")
    assert engine.counts.full == (2 * 4 + 1) * 3
