"""Inverse perplexity."""

from __future__ import annotations

from torch import Tensor

from merge_gym.suites.metrics._likelihoods import mean_log_likelihoods
from merge_gym.suites.metrics.registry import metric


@metric(columns=("target",), language=True)
def inverse_perplexity(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """1 / perplexity: the geometric mean of the target tokens' probabilities, in (0, 1]; float32,
    shape (n,). The metric is the mean over examples; `-log` of one example is its mean negative
    log-likelihood."""
    return mean_log_likelihoods(logits, targets).exp()
