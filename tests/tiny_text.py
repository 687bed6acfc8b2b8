"""Tiny language models and classifiers with a tokenizer of whole words, and suites of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from merge_gym.models import torchvision_shim

torchvision_shim.install()

from transformers import (  # noqa: E402
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

SPECIAL = ("<pad>", "</s>", "[CLS]", "[SEP]", "<unk>")
TEXT = "the a film mail is was good bad yes no never always very one two three"
WORDS = [*SPECIAL, *TEXT.split()]
TEMPLATES = {
    "bert": {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"},
    "t5": {"single": "$A </s>", "pair": "$A $B </s>"},
}
EXPERTS = ("one", "two")


def bert(**settings: Any) -> PreTrainedModel:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    limits = {"num_attention_heads": 2, "max_position_embeddings": 12}
    config = BertConfig(vocab_size=len(WORDS), **sizes | limits | settings)
    return BertForSequenceClassification(config)


def gpt2(**settings: Any) -> PreTrainedModel:
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "initializer_range": 0.5}
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), **ends, **sizes | settings))


def t5(**settings: Any) -> PreTrainedModel:
    sizes = {"d_model": 16, "d_ff": 16, "d_kv": 8, "num_heads": 2, "num_layers": 2}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=len(WORDS), **ends, **sizes | settings))


MODELS: dict[str, Callable[..., PreTrainedModel]] = {"bert": bert, "gpt2": gpt2, "t5": t5}


def save_tokenizer(directory: Path, family: str) -> None:
    """A tokenizer of `WORDS` that frames texts as the family's do."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if family in TEMPLATES:
        special = [(word, vocabulary[word]) for word in SPECIAL]
        tokenizer.post_processor = processors.TemplateProcessing(
            **TEMPLATES[family], special_tokens=special
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="</s>",
        pad_token=None if family == "gpt2" else "<pad>",
        model_input_names=["input_ids", "attention_mask"] + ["token_type_ids"] * (family == "bert"),
    ).save_pretrained(directory)


def write_suite(
    directory: Path,
    family: str,
    task: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    **settings: Any,
) -> Path:
    """Write random checkpoints, the rows dealt in two splits, and a suite of one task.

    Args:
        directory: where to write.
        family: bert, gpt2 or t5.
        task: its `columns`, and what else a task may say.
        rows: of both splits, in turn.
        settings: of the family's configuration.

    Returns: the suite file.
    """
    for seed, name in enumerate(("pretrained", *EXPERTS)):
        torch.manual_seed(seed)
        MODELS[family](**settings).save_pretrained(directory / name)
        save_tokenizer(directory / name, family)
    data = {}
    for number, split in enumerate(("search", "test")):
        data[split] = f"{split}.jsonl"
        lines = [json.dumps(row) + "\n" for row in rows[number::2]]
        (directory / data[split]).write_text("".join(lines))
    description = {
        "name": family,
        "pretrained": "pretrained",
        "experts": {name: name for name in EXPERTS},
        "tasks": {"task": {"expert": "one", "data": data, **task}},
        "operators": ["average"],
    }
    file = directory / "suite.yaml"
    file.write_text(yaml.safe_dump(description, sort_keys=False))
    return file
