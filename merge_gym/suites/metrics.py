"""Metrics, each as one number per example whose mean is the metric."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the class of the largest logit is the label, else 0; float32, shape (n,).

    Args:
        logits: shape (n, classes).
        labels: int64, shape (n,).
    """
    return (logits.argmax(-1) == labels).float()


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"accuracy": accuracy}
