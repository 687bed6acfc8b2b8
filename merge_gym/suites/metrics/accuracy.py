"""Accuracy."""

from __future__ import annotations

from torch import Tensor

from merge_gym.suites.metrics.registry import metric


@metric(columns=("input", "label"), argmax_only=True)
def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the class of the largest logit is the label, else 0; float32, shape (n,)."""
    return (logits.argmax(-1) == labels).float()
