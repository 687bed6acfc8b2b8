"""Metrics, each as one number per example whose mean is the metric: a fraction, larger is better.

A metric is given, for n examples,

- `logits`: float, shape (n, classes); of a language model (n, length, vocabulary), and
  (n, choices, length, vocabulary) where an example has several sequences;
- `labels`: int64, shape (n,), the class or the right choice;
- `targets`: int64, the logits' shape less the vocabulary: the token that each logit is to predict,
  `UNSCORED` where it is to predict none; None without a language model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

UNSCORED = -100


def accuracy(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """1 where the class of the largest logit is the label, else 0; float32, shape (n,)."""
    return (logits.argmax(-1) == labels).float()


def multiple_choice(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """1 where the right choice has the largest log-likelihood, else 0; float32, shape (n,)."""
    return (token_log_likelihoods(logits, targets).sum(-1).argmax(-1) == labels).float()


def multiple_choice_normalised(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """1 where the right choice has the largest log-likelihood per token, else 0; float32,
    shape (n,)."""
    return (_mean_log_likelihoods(logits, targets).argmax(-1) == labels).float()


def exact_match(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """1 where greedy decoding gives exactly the target tokens, else 0; float32, shape (n,).

    Greedy decoding gives the target if and only if each of its tokens is the most likely one after
    those before it. So the target is fed to the model, and nothing is decoded token by token.
    """
    return ((logits.argmax(-1) == targets) | (targets == UNSCORED)).all(-1).float()


def inverse_perplexity(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """1 / perplexity: the geometric mean of the target tokens' probabilities, in (0, 1]; float32,
    shape (n,). The metric is the mean over examples; `-log` of one example is its mean negative
    log-likelihood."""
    return _mean_log_likelihoods(logits, targets).exp()


def token_log_likelihoods(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target token, 0 where none is scored; float32, shape of `targets`."""
    logits = logits.float()
    picked = logits.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(targets == UNSCORED, 0.0, picked - logits.logsumexp(-1))


def _mean_log_likelihoods(logits: Tensor, targets: Tensor) -> Tensor:
    scored = (targets != UNSCORED).sum(-1)
    return token_log_likelihoods(logits, targets).sum(-1) / scored


@dataclass(frozen=True)
class Metric:
    """A metric and what it is computed from.

    Attributes:
        score: `(logits, labels, targets) -> values`, shape (n,).
        columns: the columns of the data that it needs; `input` may always be there.
        language: whether it scores a language model's tokens, not the classes of a head.
    """

    score: Callable[..., Tensor]
    columns: tuple[str, ...]
    language: bool = False


METRICS = {
    "accuracy": Metric(accuracy, ("input", "label")),
    "multiple_choice": Metric(multiple_choice, ("input", "choices", "label"), language=True),
    "multiple_choice_normalised": Metric(
        multiple_choice_normalised, ("input", "choices", "label"), language=True
    ),
    "exact_match": Metric(exact_match, ("input", "target"), language=True),
    "inverse_perplexity": Metric(inverse_perplexity, ("target",), language=True),
}
