"""Consensus merging with TALL masks."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import add, task_vectors, total, weighted_sum, weights
from merge_gym.operators.registry import Range, Weight, operator


@operator(scope="tensor")
def consensus(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    mask: Annotated[float, Range(0)] = 0.4,
    agreement: Annotated[int, Range(0)] = 2,
    weight: Weight = 0.3,
) -> Tensor:
    r"""Task arithmetic on the entries that at least a few of the experts make use of.

    .. math::
        m_i = \big[\, |\tau_i| > \lambda_{mask} \, |\textstyle\sum_j \tau_j - \tau_i| \,\big],
        \qquad
        \theta = \theta_{pt} + \Big[\textstyle\sum_i m_i \ge k\Big] \odot \sum_i \lambda_i \tau_i

    m is an expert's TALL mask: the entries at which its own task vector is not small beside the
    rest of the sum. ``mask`` is its λ, the same for all experts; the authors tune one per task
    between 0.2 and 0.6, and the default is the middle. ``agreement`` is k (2, the authors' choice:
    it removes what serves no task and what serves a single one; above the number of experts
    nothing is left, at 0 it is task arithmetic). ``weight`` is as in ``task_arithmetic``.

    Scope: any, the operator works entry by entry.

    Source: Wang et al. 2024, "Localizing Task Information for Improved Model Merging and
    Compression", arXiv:2405.07813.

    Elsewhere: the authors' code agrees, with λ chosen per task on validation data; mergekit
    does not have it.
    """
    vectors = task_vectors(pretrained, experts)
    together = total(vectors)
    users = torch.zeros_like(together)
    for vector in vectors:
        users.add_(vector.abs() > (together - vector).abs_().mul_(mask))
    merged = weighted_sum(vectors, weights(weight, len(vectors)))
    return add(pretrained, merged.where(users >= agreement, 0))
