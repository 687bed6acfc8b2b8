"""One fine-tuning loop for every kind of suite: one seed, the same weights every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


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


def train(
    model: nn.Module,
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
