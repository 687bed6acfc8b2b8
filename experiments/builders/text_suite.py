"""Building a suite of text classifiers: one pretrained encoder, fine-tuned on each source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.builders import expert_sets
from experiments.builders.expert_sets import Kind, open_with_head
from experiments.builders.files import save_weights
from experiments.builders.text_sources import LabelledTexts, directory_of, read_texts
from merge_gym.models import torchvision_shim
from merge_gym.models.files import copy_processor
from merge_gym.models.weights import quiet

torchvision_shim.install()

from transformers import (  # noqa: E402
    AutoModelForSequenceClassification,
    AutoTokenizer,
)


class Classifier:
    """A pretrained encoder with a fresh head, and its tokenizer.

    Args:
        directory: of the pretrained checkpoint.
        names: of the classes.
        max_length: tokens that are kept of a text.
        seed: of the head and of dropout.
    """

    def __init__(self, directory: Path, names: tuple[str, ...], max_length: int, seed: int) -> None:
        self.model = open_with_head(AutoModelForSequenceClassification, directory, names, seed)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        self.max_length = max_length

    def logits(self, texts: LabelledTexts) -> Tensor:
        """The head's output, shape (n, classes)."""
        encoded = self.tokenizer(
            texts.texts,
            truncation=True,
            max_length=self.max_length,
            padding="longest",
            return_tensors="pt",
        )
        return self.model(**encoded).logits

    def loss_on(self, texts: LabelledTexts) -> Callable[[Tensor], Tensor]:
        """The mean cross entropy of the texts of these numbers, shape (batch,)."""

        def loss(batch: Tensor) -> Tensor:
            chosen = texts[batch.numpy()]
            return cross_entropy(self.logits(chosen), torch.from_numpy(chosen.labels))

        return loss

    @torch.inference_mode()
    def score(self, texts: LabelledTexts, batch_size: int = 32) -> float:
        """Share of the texts whose largest logit is their label's."""
        batches = np.array_split(np.arange(len(texts)), -(-len(texts) // batch_size))
        hits = [
            (self.logits(texts[rows]).argmax(-1).numpy() == texts.labels[rows]) for rows in batches
        ]
        return float(np.concatenate(hits).mean())


def _save_pretrained(settings: DictConfig, target: Path) -> None:
    """Write the pretrained model in float16, as the experts are."""
    source = directory_of(settings, "model.safetensors")
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(source)
    save_weights(model.base_model, target)
    copy_processor(source, target)


def _open_expert(
    directory: Path, source: DictConfig, texts: LabelledTexts, seed: int
) -> Classifier:
    return Classifier(directory, texts.names, source.max_length, seed)


def _table(texts: LabelledTexts) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    return {"text": texts.texts, "label": texts.labels.tolist()}, {
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=list(texts.names)),
    }


def _entry(source: DictConfig) -> dict[str, Any]:
    return {
        "metric": "accuracy",
        "columns": {"input": "text", "label": "label"},
        "max_length": source.max_length,
    }


KIND = Kind(lambda source, _: read_texts(source), _save_pretrained, _open_expert, _table, _entry)

build = partial(expert_sets.build, KIND)
