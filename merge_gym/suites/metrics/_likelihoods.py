"""What several metrics of language models are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from merge_gym.suites.metrics.registry import UNSCORED


def token_log_likelihoods(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target token, 0 where none is scored; float32, shape of `targets`."""
    logits = logits.float()
    picked = logits.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(targets == UNSCORED, 0.0, picked - logits.logsumexp(-1))


def mean_log_likelihoods(logits: Tensor, targets: Tensor) -> Tensor:
    """Their mean over the scored tokens of each sequence."""
    scored = (targets != UNSCORED).sum(-1)
    return token_log_likelihoods(logits, targets).sum(-1) / scored
