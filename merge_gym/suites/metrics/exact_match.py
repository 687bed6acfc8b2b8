"""Exact match without decoding."""

from __future__ import annotations

from torch import Tensor

from merge_gym.suites.metrics.registry import UNSCORED, metric


@metric(columns=("input", "target"), language=True, ends=True)
def exact_match(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """1 where greedy decoding gives exactly the target tokens, else 0; float32, shape (n,).

    Greedy decoding gives the target if and only if each of its tokens is the most likely one after
    those before it. So the target is fed to the model, and nothing is decoded token by token.
    """
    return ((logits.argmax(-1) == targets) | (targets == UNSCORED)).all(-1).float()
