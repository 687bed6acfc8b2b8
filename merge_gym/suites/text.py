"""Texts to tokens, by the model's own tokenizer, padded on the right to rectangular tensors."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer

from merge_gym.models import Checkpoint, adapter_for
from merge_gym.suites.metrics import UNSCORED
from merge_gym.suites.problems import shown

VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


def class_inputs(
    texts: Sequence[Sequence[str]], max_length: int, model: Checkpoint
) -> dict[str, Tensor]:
    """What a classifier is called with for n texts or pairs of texts.

    Args:
        texts: one list of n texts, or the two lists of n pairs.
        max_length: tokens that are kept of each.
        model: whose tokenizer is applied.
    """
    encoded = open_tokenizer(model)(
        *texts, truncation=True, max_length=max_length, padding="longest", return_tensors="pt"
    )
    return _accepted(dict(encoded), model)


def language_inputs(
    prompts: Sequence[str], targets: Sequence[str], max_length: int, model: Checkpoint, ends: bool
) -> tuple[dict[str, Tensor], Tensor]:
    """What a language model is called with to score n targets, each after its prompt.

    An encoder-decoder reads the prompt in its encoder, and its targets end as its tokenizer ends
    them. A decoder reads both laid end to end, tokenised apart (where its tokens hold their spaces,
    targets are to begin with one); of a prompt that is too long it reads the end.

    Args:
        prompts: n texts, empty where there is none.
        targets: n texts.
        max_length: tokens of an encoder's prompt, or of a decoder's prompt and target.
        model: whose tokenizer is applied.
        ends: whether a decoder's target is followed by the token that ends a text.

    Returns:
        The inputs, each of shape (n, length), and the targets as metrics take them.

    Raises ValueError where a target is longer than `max_length`, or has no token.
    """
    tokenizer = open_tokenizer(model)
    two_stacks = model.config.is_encoder_decoder
    end = [tokenizer.eos_token_id] if ends and not two_stacks and tokenizer.eos_token else []
    encoded = tokenizer(list(targets), add_special_tokens=two_stacks)["input_ids"]
    tokens = [ids + end for ids in encoded]
    _check_lengths(tokens, targets, max_length)
    if two_stacks:
        inputs, scored = _encoder_decoder(tokenizer, prompts, tokens, max_length, model)
    else:
        inputs, scored = _decoder(tokenizer, prompts, tokens, max_length)
    return _accepted(inputs, model), scored


def _encoder_decoder(
    tokenizer: Any,
    prompts: Sequence[str],
    targets: Sequence[list[int]],
    max_length: int,
    model: Checkpoint,
) -> tuple[dict[str, Tensor], Tensor]:
    encoded = tokenizer(
        list(prompts),
        truncation=True,
        max_length=max_length,
        padding="longest",
        return_tensors="pt",
    )
    start = model.config.decoder_start_token_id
    read = [[start, *tokens[:-1]] for tokens in targets]
    decoder_inputs = {"decoder_input_ids": _padded(read, tokenizer.pad_token_id)}
    return dict(encoded) | decoder_inputs, _padded(targets, UNSCORED)


def _decoder(
    tokenizer: Any, prompts: Sequence[str], targets: Sequence[list[int]], max_length: int
) -> tuple[dict[str, Tensor], Tensor]:
    tokenizer.truncation_side = "left"
    room = max_length - max(map(len, targets))
    heads = tokenizer(list(prompts), truncation=True, max_length=room)["input_ids"]
    read = [head + target for head, target in zip(heads, targets, strict=True)]
    if not all(len(tokens) > 1 for tokens in read):
        raise ValueError("there is a target of one token after no prompt, which nothing predicts")
    # The logit at a token predicts the next one.
    predicted = [
        [*[UNSCORED] * len(head), *target, UNSCORED][1:]
        for head, target in zip(heads, targets, strict=True)
    ]
    ones = [[1] * len(tokens) for tokens in read]
    inputs = {
        "input_ids": _padded(read, tokenizer.pad_token_id),
        "attention_mask": _padded(ones, 0),
    }
    return inputs, _padded(predicted, UNSCORED)


def check_vocabulary(place: Path) -> None:
    """FileNotFoundError unless the directory holds a tokenizer's vocabulary."""
    if not any((place / name).is_file() for name in VOCABULARIES):
        raise FileNotFoundError(
            f"{place} holds no tokenizer ({', '.join(VOCABULARIES[:2])} …): copy the one that the "
            f"model was trained with there"
        )


def open_tokenizer(model: Checkpoint) -> Any:
    """The tokenizer beside a checkpoint's weights; it pads on the right.

    Raises FileNotFoundError or ValueError where there is none, or it does not fit the model.
    """
    place = Path(model.processor or model.location)
    tokenizer = _read_tokenizer(place)
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer in {place} has {len(tokenizer)} tokens, its model only "
            f"{model.config.vocab_size}: it is another model's"
        )
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _read_tokenizer(place: Path) -> Any:
    check_vocabulary(place)
    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # tokenizers raises what it likes for a damaged file
        raise ValueError(f"the tokenizer in {place} cannot be read: {error}") from None


def check_same_words(place: Path, other: Path) -> None:
    """ValueError where the tokenizers in two directories have two words for one number."""
    if _vocabulary_files(place) == _vocabulary_files(other):
        return
    ours, theirs = (_read_tokenizer(each).get_vocab() for each in (place, other))
    words = {number: word for word, number in theirs.items()}
    for word, number in sorted(ours.items(), key=lambda item: item[1]):
        if words.get(number, word) != word:
            raise ValueError(
                f"token {number} is {word!r} in the tokenizer of {place}, but {words[number]!r} in "
                f"that of {other}: models that read other words are not merged"
            )


def _vocabulary_files(place: Path) -> dict[str, bytes]:
    files = [place / name for name in (*VOCABULARIES, "added_tokens.json")]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def _accepted(inputs: dict[str, Tensor], model: Checkpoint) -> dict[str, Tensor]:
    """The inputs that the model's `forward` takes; ValueError where they are too long for it."""
    length, limit = inputs["input_ids"].shape[1], adapter_for(model.config).positions
    if limit is not None and length > limit:
        raise ValueError(
            f"there are texts of {length} tokens, but {model.location} has positions for {limit} "
            f"only: set the task's max_length to {limit} or less"
        )
    known = inspect.signature(adapter_for(model.config).model_class().forward).parameters
    return {name: value for name, value in inputs.items() if name in known}


def _check_lengths(tokens: Sequence[list[int]], texts: Sequence[str], max_length: int) -> None:
    for ids, text in zip(tokens, texts, strict=True):
        if not 0 < len(ids) <= max_length:
            raise ValueError(
                f"the target {shown(text)} has {len(ids)} tokens, expected 1 to "
                f"max_length={max_length}"
            )


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=value)
