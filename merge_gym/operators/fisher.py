"""Fisher merging."""

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from merge_gym.operators._task_vectors import total, weights, work
from merge_gym.operators.average import average
from merge_gym.operators.registry import Range, Weight, operator


@operator(scope="tensor", scopes=("tensor",), needs="fisher")
def fisher(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Weight, Range(0)] = 1.0,
    statistics: Sequence[Tensor] | None = None,
) -> Tensor:
    r"""Average each entry by how much the experts' predictions depend on it.

    .. math:: \theta = \frac{\sum_i \lambda_i F_i \odot \theta_i}{\sum_i \lambda_i F_i}

    ``statistics`` are the diagonals F of the experts' Fisher information, each in the tensor's
    shape. ``weight`` is λ, one for all experts or one each; only the proportions matter. A tensor
    without statistics, and every entry on which no expert depends, gets the mean weighted by λ.
    The pretrained values are not used.

    F takes gradients to compute, so this operator stands outside any claim of being gradient-free.

    Scope: ``tensor`` only, entry by entry, for the statistics come tensor by tensor.

    Source: Matena and Raffel 2022, "Merging Models with Fisher-Weighted Averaging",
    arXiv:2111.09832.

    Elsewhere: the authors' code divides each F by its norm over the whole model, raises the first
    model's to at least 1e-6, and searches λ on validation data. mergekit does not have it.
    """
    mean = average(pretrained, experts, weight=weight)
    if statistics is None:
        return mean
    factors = weights(weight, len(experts))
    shares = [
        work(statistic).to(mean.device) * factor
        for statistic, factor in zip(statistics, factors, strict=True)
    ]
    together = total(shares)
    merged = total([(s / together).mul_(work(e)) for s, e in zip(shares, experts, strict=True)])
    return merged.to(mean.dtype).where(together > 0, mean)
