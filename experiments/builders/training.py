"""One fine-tuning loop for every kind of suite: one seed, the same weights every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Optimiser:
    """AdamW's settings that all models share.

    Attributes:
        weight_decay, batch_size, clip_norm: as usual; the norm is of all gradients together.
        warm_up: share of the steps in which the rate rises linearly, before a cosine to zero.
        head: what the rate of a head's tensors is multiplied by.
    """

    weight_decay: float
    batch_size: int
    clip_norm: float
    warm_up: float
    head: float = 1.0

    def steps(self, examples: int, epochs: int) -> int:
        return epochs * math.ceil(examples / self.batch_size)

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by at `step` of `steps`."""
        warm = max(1, round(self.warm_up * steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    def groups(self, model: PreTrainedModel, learning_rate: float) -> list[dict[str, Any]]:
        """The parameters with their rates: those of the head apart, where it has another."""
        if self.head == 1:
            return [{"params": list(model.parameters()), "lr": learning_rate}]
        trunk = {id(parameter) for parameter in model.base_model.parameters()}
        head = [parameter for parameter in model.parameters() if id(parameter) not in trunk]
        return [
            {"params": list(model.base_model.parameters()), "lr": learning_rate},
            {"params": head, "lr": self.head * learning_rate},
        ]


def train(
    model: PreTrainedModel,
    loss: Callable[[Tensor], Tensor],
    examples: int,
    learning_rate: float,
    epochs: int,
    optimiser: Optimiser,
    seed: int,
    advance: Callable[[], None],
) -> None:
    """Train all parameters and round them to what float16 holds, as they are stored.

    Args:
        model: changed in place.
        loss: the model's mean loss on the examples of these numbers, shape (batch,).
        examples: how many there are.
        learning_rate: AdamW's, at its greatest; the head's is `optimiser.head` times that.
        epochs: passes over the examples.
        optimiser: everything else about the steps.
        seed: of the order of the examples.
        advance: called after each step.
    """
    generator = torch.Generator().manual_seed(seed)
    adamw = torch.optim.AdamW(
        optimiser.groups(model, learning_rate), weight_decay=optimiser.weight_decay, fused=True
    )
    steps = optimiser.steps(examples, epochs)
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: optimiser.factor(step, steps))
    model.train()
    for _ in range(epochs):
        order = torch.randperm(examples, generator=generator)
        for batch in order.split(optimiser.batch_size):
            value = loss(batch)
            adamw.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), optimiser.clip_norm)
            adamw.step()
            schedule.step()
            advance()
    model.half().float().eval()
