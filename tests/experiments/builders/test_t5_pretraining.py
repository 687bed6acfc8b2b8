"""The tokenizer and the span corruption that a small T5 is trained with."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from experiments.builders.t5_pretraining import corrupt, new_model, new_tokenizer, pretrain, windows
from experiments.builders.training import Optimiser

TEXTS = [f"the {noun} is {verb}, {noun}!" for noun in ("Cat", "dog", "hen") for verb in "abcdef"]
QUESTIONS = [(text, text.split()[1].lower()) for text in TEXTS]
WINDOW = 40
SIZES = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
PLAIN = {"dropout_rate": 0.0, "scale_decoder_outputs": False}


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer(TEXTS, vocabulary=60, window=WINDOW)


def test_tokens_begin_with_padding_end_unknown_and_the_sentinels(tokenizer) -> None:
    tokens = ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"]
    assert tokenizer.convert_ids_to_tokens(range(5)) == tokens
    assert tokenizer.extra_special_tokens == tokens[3:]
    special = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    assert special == (0, 1, 2)


def test_a_text_comes_back_in_lower_case_with_its_end(tokenizer) -> None:
    tokens = tokenizer("The Cat is a, cat!")["input_ids"]
    assert tokenizer.decode(tokens) == "the cat is a, cat!</s>"
    assert tokenizer("q")["input_ids"][-2:] == [2, 1]


def test_the_same_texts_give_the_same_tokenizer(tokenizer) -> None:
    again = new_tokenizer(TEXTS, vocabulary=60, window=WINDOW)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_windows_hold_the_texts_end_to_end(tokenizer) -> None:
    rows = windows(TEXTS, tokenizer, WINDOW)
    tokens = [token for text in TEXTS for token in tokenizer(text)["input_ids"]]
    assert rows.shape == (len(tokens) // WINDOW, WINDOW)
    assert rows.ravel().tolist() == tokens[: rows.size]


def restored(inputs: list[int], targets: list[int], sentinels: list[int]) -> list[int]:
    """What was corrupted, put together again."""
    starts = [targets.index(sentinel) for sentinel in sentinels] + [len(targets) - 1]
    spans = {
        sentinel: targets[start + 1 : stop]
        for sentinel, start, stop in zip(sentinels, starts[:-1], starts[1:], strict=True)
    }
    return [token for part in inputs[:-1] for token in spans.get(part, [part])]


@pytest.mark.parametrize("seed", range(20))
def test_corruption_takes_spans_out_and_loses_nothing(seed: int) -> None:
    tokens, sentinels, end = np.arange(100, 140), [3, 4], 1
    inputs, targets = corrupt(tokens, sentinels, end, np.random.default_rng(seed))
    assert inputs[-1] == targets[-1] == end
    assert len(targets) == 6 + 2 + 1  # 15 % of 40, a sentinel a span, the end
    assert len(inputs) == 34 + 2 + 1
    assert [token for token in inputs if token in sentinels] == sentinels
    assert restored(inputs, targets, sentinels) == tokens.tolist()


def test_spans_are_drawn_from_the_generator() -> None:
    tokens = np.arange(100, 140)
    first, again, other = (
        corrupt(tokens, [3, 4], 1, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_model_knows_the_tokenizer_s_special_tokens(tokenizer) -> None:
    config = new_model(tokenizer, SIZES | PLAIN, seed=0).config
    assert (config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (0, 1, 0)
    assert config.vocab_size == len(tokenizer)


def trained(tokenizer, seed: int) -> torch.nn.Module:
    model, steps = new_model(tokenizer, SIZES | PLAIN, seed=0), []
    rows, optimiser = windows(TEXTS, tokenizer, WINDOW), Optimiser(0.0, 2, 1.0, 0.1)
    advance = partial(steps.append, 1)
    pretrain(model, tokenizer, rows, QUESTIONS, 0.02, 10, optimiser, seed, advance)
    assert len(steps) == optimiser.steps(len(rows), 10)
    return model


def test_pretraining_depends_on_its_seed_alone(tokenizer) -> None:
    first, again, other = (trained(tokenizer, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@torch.no_grad()
def loss(model, tokenizer) -> float:
    generator, losses = np.random.default_rng(5), []
    sentinels = tokenizer.convert_tokens_to_ids(tokenizer.extra_special_tokens)
    for row in windows(TEXTS, tokenizer, WINDOW):
        inputs, targets = corrupt(row, sentinels, tokenizer.eos_token_id, generator)
        pair = {"input_ids": torch.tensor([inputs]), "labels": torch.tensor([targets])}
        losses.append(float(model(**pair).loss))
    return float(np.mean(losses))


def test_pretraining_teaches_to_fill_in_spans(tokenizer) -> None:
    fresh = new_model(tokenizer, SIZES | PLAIN, seed=0).eval()
    assert loss(trained(tokenizer, 0), tokenizer) < loss(fresh, tokenizer) - 0.5


@torch.no_grad()
def loss_of_answers(model, tokenizer) -> float:
    """The mean over the questions, each on its own."""
    pairs = [
        {
            "input_ids": torch.tensor([tokenizer(prompt)["input_ids"]]),
            "labels": torch.tensor([tokenizer(answer)["input_ids"]]),
        }
        for prompt, answer in QUESTIONS
    ]
    return float(np.mean([float(model(**pair).loss) for pair in pairs]))


def test_pretraining_teaches_the_answers(tokenizer) -> None:
    fresh = new_model(tokenizer, SIZES | PLAIN, seed=0).eval()
    before, after = (loss_of_answers(model, tokenizer) for model in (fresh, trained(tokenizer, 0)))
    assert after < before * 2 / 3  # without them, spans alone lead to 0.78
