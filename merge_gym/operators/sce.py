"""SCE: select, calculate, erase."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import add, elect, keep_largest_, kept, task_vectors
from merge_gym.operators.registry import Range, operator


@operator(scope="tensor")
def sce(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    density: Annotated[float, Range(0, 1)] = 1.0,
) -> Tensor:
    r"""Select the entries on which experts differ most, weigh experts by size, erase minorities.

    .. math::
        \eta_i = \frac{\lVert\hat\tau_i\rVert^2}{\sum_j \lVert\hat\tau_j\rVert^2}, \qquad
        \theta = \theta_{pt} + \frac{\sum_{i \in A} \eta_i \hat\tau_i}{\sum_{i \in A} \eta_i}

    where the task vectors keep only the ``density`` share of entries with the greatest variance
    over the experts, and A are the experts whose entry has the elected sign (see ``ties``).
    At density 1, the default as in mergekit, nothing is selected away; below it, an entry on which
    all agree, hence every entry of a single expert, counts as not salient and keeps its pretrained
    value.

    Scope: ``tensor``, the paper's matrix-level coefficients.

    Source: Wan et al. 2024, "FuseChat", arXiv:2408.07990.

    Elsewhere: mergekit's ``sce`` agrees up to ties; it counts a cancelled entry as positive, and
    weighs all experts alike once their mean squares sum to less than 1e-6, as those of small task
    vectors do.
    """
    vectors = task_vectors(pretrained, experts)
    if density < 1:
        variance = torch.stack(vectors).var(dim=0, correction=0)
        count = kept(density, int(variance.count_nonzero()))
        salient = keep_largest_(variance, count / variance.numel()) > 0
        vectors = [vector.where(salient, 0) for vector in vectors]
    sign = elect(vectors)
    merged, shares = torch.zeros_like(sign), torch.zeros_like(sign)
    for vector in vectors:
        share = vector.square().sum()
        agreeing = vector * sign > 0
        merged.add_(vector.where(agreeing, 0) * share)
        shares.add_(agreeing * share)
    return add(pretrained, merged.div_(shares.where(shares > 0, 1)))
