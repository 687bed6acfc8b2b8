"""Training the small ViTs of a suite: one thread, one seed, the same weights every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.builders import training
from experiments.builders.image_sources import LabelledImages
from experiments.builders.training import Optimiser
from merge_gym.models import torchvision_shim

torchvision_shim.install()

from transformers import ViTConfig  # noqa: E402
from transformers import ViTForImageClassification as ViTForImageClassification  # noqa: E402


@dataclass(frozen=True)
class Examples:
    """Preprocessed images.

    Attributes:
        pixels: in [-1, 1], float32, shape (n, 1, height, width).
        labels: places in the head, int64, shape (n,).
    """

    pixels: Tensor
    labels: Tensor

    @classmethod
    def of(cls, rows: LabelledImages, classes: Sequence[int]) -> Examples:
        """`rows`, whose class `classes[k]` gets the label k."""
        places = {number: place for place, number in enumerate(classes)}
        return cls(
            torch.tensor(rows.images, dtype=torch.float32).unsqueeze(1) / 127.5 - 1,
            torch.tensor([places[int(label)] for label in rows.labels]),
        )

    def __len__(self) -> int:
        return len(self.labels)


def new_model(
    settings: Mapping[str, float], classes: Sequence[str], seed: int
) -> ViTForImageClassification:
    """A freshly drawn model whose head has one output for each of the named `classes`."""
    config = ViTConfig(
        **settings,
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ViTForImageClassification(config)


def start_from(model: ViTForImageClassification, pretrained: ViTForImageClassification) -> None:
    """Copy everything but the head from `pretrained` into `model`."""
    model.vit.load_state_dict(pretrained.vit.state_dict())


def train(
    model: ViTForImageClassification,
    examples: Examples,
    learning_rate: float,
    epochs: int,
    optimiser: Optimiser,
    seed: int,
    advance: Callable[[], None],
) -> None:
    """Train all parameters on `examples`; see `experiments.builders.training.train`."""

    def loss(batch: Tensor) -> Tensor:
        logits = model(pixel_values=examples.pixels[batch]).logits
        return cross_entropy(logits, examples.labels[batch])

    training.train(model, loss, len(examples), learning_rate, epochs, optimiser, seed, advance)


@torch.inference_mode()
def accuracy(model: ViTForImageClassification, examples: Examples, batch_size: int = 64) -> float:
    """Share of the examples whose largest logit is their label's."""
    hits = [
        (model(pixel_values=pixels).logits.argmax(-1) == labels).float()
        for pixels, labels in zip(
            examples.pixels.split(batch_size), examples.labels.split(batch_size), strict=True
        )
    ]
    return float(torch.cat(hits).mean())
