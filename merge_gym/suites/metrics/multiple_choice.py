"""Multiple choice by log-likelihood."""

from __future__ import annotations

from torch import Tensor

from merge_gym.suites.metrics._likelihoods import token_log_likelihoods
from merge_gym.suites.metrics.registry import metric


@metric(columns=("input", "choices", "label"), language=True)
def multiple_choice(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """1 where the right choice has the largest log-likelihood, else 0; float32, shape (n,)."""
    return (token_log_likelihoods(logits, targets).sum(-1).argmax(-1) == labels).float()
