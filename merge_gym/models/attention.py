"""Attention from one position only, for last layers whose head reads one token."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def attend_from(
    position: int,
    hidden: Tensor,
    query: nn.Linear,
    key: nn.Linear,
    value: nn.Linear,
    heads: int,
    scaling: float,
    mask: Tensor | None = None,
) -> Tensor:
    """What multi-head attention gives at one position, without projecting the other tokens.

    The key projection is moved onto the query, and the value projection behind the weighted mean
    of the tokens: q·(K x) = (Kᵀ q)·x and Σ a (V x) = V Σ a x. The key's bias adds the same number
    to every score of a head and drops out of the softmax. Equal to ordinary attention up to the
    rounding of floats.

    Args:
        position: the token that is read.
        hidden: what attention is given, shape (batch, tokens, width).
        query: projection, width to heads · size.
        key: projection, likewise; its bias is not needed.
        value: projection, likewise.
        heads: number of heads.
        scaling: factor of the scores.
        mask: which tokens may be read, bool or added to the scores, shape (batch, heads or 1,
            tokens, tokens); None for all.

    Returns:
        Shape (batch, 1, heads · size), before the output projection.
    """
    batch, _, width = hidden.shape
    queries = query(hidden[:, position]).view(batch, heads, -1)
    keys = key.weight.view(heads, -1, width)
    values = value.weight.view(heads, -1, width)
    scores = torch.einsum("bhd,hdw->bhw", queries, keys) @ hidden.transpose(1, 2)
    means = torch.softmax(_masked(scores * scaling, mask, position), dim=-1) @ hidden
    read = torch.einsum("bhw,hdw->bhd", means, values).reshape(batch, 1, -1)
    return read if value.bias is None else read + value.bias


def _masked(scores: Tensor, mask: Tensor | None, position: int) -> Tensor:
    if mask is None:
        return scores
    row = mask[:, :, position]
    return scores.masked_fill(~row, -torch.inf) if row.dtype == torch.bool else scores + row
