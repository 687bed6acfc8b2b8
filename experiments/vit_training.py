"""Training the small ViTs of a suite: one thread, one seed, the same weights every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.image_sources import LabelledImages
from merge_gym.models import torchvision_shim

torchvision_shim.install()

from transformers import ViTConfig, ViTForImageClassification  # noqa: E402


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


@dataclass(frozen=True)
class Optimiser:
    """AdamW's settings that all models share.

    Attributes:
        weight_decay, batch_size, clip_norm: as usual; the norm is of all gradients together.
        warm_up: share of the steps in which the rate rises linearly, before a cosine to zero.
    """

    weight_decay: float
    batch_size: int
    clip_norm: float
    warm_up: float

    def steps(self, examples: int, epochs: int) -> int:
        return epochs * math.ceil(examples / self.batch_size)

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by at `step` of `steps`."""
        warm = max(1, round(self.warm_up * steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


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
    """Train all parameters and round them to what float16 holds, as they are stored.

    Args:
        model: changed in place.
        examples: what it is trained on.
        learning_rate: AdamW's, at its greatest.
        epochs: passes over the examples.
        optimiser: everything else about the steps.
        seed: of the order of the examples.
        advance: called after each step.
    """
    generator = torch.Generator().manual_seed(seed)
    adamw = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=optimiser.weight_decay, fused=True
    )
    steps = optimiser.steps(len(examples), epochs)
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: optimiser.factor(step, steps))
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(examples), generator=generator)
        for batch in order.split(optimiser.batch_size):
            logits = model(pixel_values=examples.pixels[batch]).logits
            adamw.zero_grad()
            cross_entropy(logits, examples.labels[batch]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), optimiser.clip_norm)
            adamw.step()
            schedule.step()
            advance()
    model.half().float().eval()


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
