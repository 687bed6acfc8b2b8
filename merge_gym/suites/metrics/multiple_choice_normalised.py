"""Multiple choice by log-likelihood per token."""

from __future__ import annotations

from torch import Tensor

from merge_gym.suites.metrics._likelihoods import mean_log_likelihoods
from merge_gym.suites.metrics.registry import metric


@metric(columns=("input", "choices", "label"), language=True)
def multiple_choice_normalised(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """1 where the right choice has the largest log-likelihood per token, else 0; float32,
    shape (n,)."""
    return (mean_log_likelihoods(logits, targets).argmax(-1) == labels).float()
