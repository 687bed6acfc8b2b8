"""RegMean."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import total, weighted_sum, work
from merge_gym.operators.registry import Range, operator

_RIDGE = 1e-8
"""Keeps the system solvable, as a share of the Gram matrix's mean diagonal entry."""


@operator(scope="tensor", scopes=("tensor",), needs="gram")
def regmean(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    alpha: Annotated[float, Range(0, 1)] = 0.9,
    statistics: Sequence[Tensor] | None = None,
) -> Tensor:
    r"""The linear layer whose outputs are nearest to every expert's on that expert's own inputs.

    .. math::
        W = \Big(\sum_i \tilde G_i\Big)^{-1} \sum_i \tilde G_i W_i, \qquad
        \tilde G_i = \alpha\, G_i + (1 - \alpha)\, \mathrm{diag}(G_i), \qquad
        G_i = X_i^\top X_i

    with X the inputs of the layer, one row each, and W as it is applied to a row. ``statistics``
    are the Gram matrices G. ``alpha`` scales what is off their diagonal: at 1 W is the exact
    least-squares solution over the union of the inputs, at 0 every input by itself weighs the
    experts; 0.9 is the authors' choice where it matters. The pretrained values are not used. What
    has no statistics (biases, norms, embeddings, all that is no ``torch.nn.Linear``) gets the mean,
    and so do directions in which no expert ever had an input. It is solved in float64.

    It looks at data, without labels and with forward passes only.

    Scope: ``tensor`` only, each linear layer by itself.

    Source: Jin et al. 2023, "Dataless Knowledge Fusion by Merging Weights of Language Models",
    arXiv:2212.09849, and the authors' code.

    Elsewhere: the authors' demonstration divides each G by its number of rows, and scales nothing
    for RoBERTa but asks for 0.9 with DeBERTa and T5; their configuration for DeBERTa has 0.1. They
    invert the sum, which fails where an input is always zero, and merge GPT-2's ``Conv1D`` as well.
    mergekit does not have it.
    """
    experts = [work(expert) for expert in experts]
    merged = weighted_sum(experts, [1 / len(experts)] * len(experts))
    if statistics is not None:
        grams = [_damped(gram.to(merged.device, torch.float64), alpha) for gram in statistics]
        merged += _correction(merged, experts, grams).to(merged.dtype)
    return merged.to(pretrained.dtype)


def _damped(gram: Tensor, alpha: float) -> Tensor:
    """A new Gram matrix with everything off the diagonal times ``alpha``."""
    damped = gram * alpha
    damped.diagonal().copy_(gram.diagonal())
    return damped


def _correction(mean: Tensor, experts: Sequence[Tensor], grams: Sequence[Tensor]) -> Tensor:
    """What leads from the experts' mean to the solution, for weights of shape (outputs, inputs)."""
    system = total(grams)
    ridge = _RIDGE * system.diagonal().mean()
    if ridge == 0:
        return torch.zeros_like(mean)
    system.diagonal().add_(ridge)
    pull = total([(e - mean).double() @ gram for e, gram in zip(experts, grams, strict=True)])
    return torch.linalg.solve(system, pull, left=False)
