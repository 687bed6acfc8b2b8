"""A small T5 from scratch: a tokenizer of word pieces, then span corruption mixed with questions.

The objective is T5's (Raffel et al., "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer", 2020, section 3.1.4): spans of three tokens on average, 15 % of the text,
are each replaced by one sentinel, and the decoder writes what was taken out. As there (section
3.5.3), prompts with their answers are mixed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from experiments.builders import training
from experiments.builders.training import Optimiser
from merge_gym.models import torchvision_shim
from merge_gym.suites.metrics import UNSCORED

torchvision_shim.install()

from transformers import (  # noqa: E402
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
CORRUPTED, MEAN_SPAN = 0.15, 3
"""Share of the tokens that are taken out, and how many of them stand side by side on average."""

Tokens = NDArray[np.int64]


def new_tokenizer(texts: Sequence[str], vocabulary: int, window: int) -> PreTrainedTokenizerFast:
    """Train a byte-pair tokenizer of lower-case pieces, with a sentinel for each span of a window.

    Args:
        texts: what the pieces are counted in.
        vocabulary: how many tokens there are in all.
        window: tokens that are corrupted together.
    """
    sentinels = [f"<extra_id_{number}>" for number in range(_spans(window))]
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END, UNKNOWN, *sentinels],
        limit_alphabet=100,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}",
        pair=f"$A $B {END}",
        special_tokens=[(END, tokenizer.token_to_id(END))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        extra_special_tokens=sentinels,
        model_input_names=["input_ids", "attention_mask"],
    )


def new_model(tokenizer: PreTrainedTokenizerFast, sizes: Mapping[str, Any], seed: int) -> Any:
    """A T5 with random weights, of the sizes that `T5Config` knows by these names.

    Embeddings begin at a tenth of the size that T5 gives them: it has Adafactor, whose steps grow
    with a tensor's size, where AdamW's would hardly move them.
    """
    config = T5Config(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for weight in {model.shared.weight, model.lm_head.weight}:  # one, where they are tied
            weight.mul_(0.1)
    return model


def windows(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, window: int) -> Tokens:
    """The texts' tokens end to end, cut into shape (n, window); what is over is left out."""
    tokens = np.array([token for ids in tokenizer(list(texts))["input_ids"] for token in ids])
    return tokens[: len(tokens) // window * window].reshape(-1, window)


def corrupt(
    tokens: Tokens, sentinels: Sequence[int], end: int, generator: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Take random spans out of one window.

    Args:
        tokens: shape (window,).
        sentinels: the token that stands for each span, in their order.
        end: the token that ends a text.
        generator: where the spans come from.

    Returns:
        What the encoder reads and what the decoder is to write. Their lengths depend on the
        window's length alone.
    """
    spans, lost = _spans(len(tokens)), _lost(len(tokens))
    lengths = zip(
        _parts(len(tokens) - lost, spans, generator), _parts(lost, spans, generator), strict=True
    )
    edges = np.cumsum([length for pair in lengths for length in pair])[:-1]
    parts = [part.tolist() for part in np.split(tokens, edges)]
    inputs, targets = [], []
    for kept, taken, sentinel in zip(parts[::2], parts[1::2], sentinels, strict=True):
        inputs += [*kept, sentinel]
        targets += [sentinel, *taken]
    return [*inputs, end], [*targets, end]


def _lost(window: int) -> int:
    return max(1, round(CORRUPTED * window))


def _spans(window: int) -> int:
    return max(1, round(_lost(window) / MEAN_SPAN))


def _parts(total: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`count` random lengths from 1 on that sum to `total`."""
    cuts = np.sort(generator.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff([0, *cuts, total])


def pretrain(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    rows: Tokens,
    questions: Sequence[tuple[str, str]],
    learning_rate: float,
    epochs: int,
    optimiser: Optimiser,
    seed: int,
    advance: Callable[[], None],
) -> None:
    """Train the model in place to fill in spans of these windows, and to answer questions.

    The spans are drawn anew in each epoch. To each batch of windows belong equally many questions,
    drawn at random; the loss is the sum of both means.

    Args:
        model: of `new_model`.
        tokenizer: of `new_tokenizer`.
        rows: windows, shape (n, window).
        questions: prompts, each with its answer.
        learning_rate: AdamW's, at its greatest.
        epochs: passes over the windows.
        optimiser: everything else about the steps.
        seed: of the order of the windows, of the spans and of the questions.
        advance: called after each step.
    """
    generator = np.random.default_rng(seed)
    sentinels = tokenizer.convert_tokens_to_ids(tokenizer.extra_special_tokens)
    prompts, answers = (
        [torch.tensor(ids) for ids in tokenizer(list(texts))["input_ids"]]
        for texts in zip(*questions, strict=True)
    )

    def loss_of_spans(batch: Tensor) -> Tensor:
        pairs = [
            corrupt(row, sentinels, tokenizer.eos_token_id, generator)
            for row in rows[batch.numpy()]
        ]
        inputs, targets = map(torch.tensor, zip(*pairs, strict=True))
        return model(input_ids=inputs, labels=targets).loss

    def loss_of_answers(count: int) -> Tensor:
        drawn = generator.integers(len(questions), size=count)
        inputs = pad_sequence([prompts[row] for row in drawn], batch_first=True)
        targets = [answers[row] for row in drawn]
        return model(
            input_ids=inputs,
            attention_mask=(inputs != tokenizer.pad_token_id).long(),
            labels=pad_sequence(targets, batch_first=True, padding_value=UNSCORED),
        ).loss

    def loss(batch: Tensor) -> Tensor:
        return loss_of_spans(batch) + loss_of_answers(len(batch))

    training.train(model, loss, len(rows), learning_rate, epochs, optimiser, seed, advance)
