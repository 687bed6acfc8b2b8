"""Weight averaging."""

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from merge_gym.operators._task_vectors import weighted_sum, weights, work
from merge_gym.operators.registry import Range, Weight, operator


@operator(scope="tensor")
def average(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Weight, Range(0)] = 1.0,
) -> Tensor:
    r"""The weighted mean of the experts' values.

    .. math:: \theta = \frac{\sum_i w_i \theta_i}{\sum_i w_i}

    ``weight`` is w, one for all experts or one each, none negative. Only the proportions matter, so
    one number for all, the default, is the plain mean. The pretrained values are not used.

    Scope: any, the operator works entry by entry.

    Source: Wortsman et al. 2022, "Model soups", arXiv:2203.05482 (the uniform soup).

    Elsewhere: mergekit ``linear`` agrees; with ``normalize: false`` it is the weighted sum.
    """
    factors = weights(weight, len(experts))
    total = sum(factors)
    if total == 0:
        raise ValueError("average: all weights are zero; at least one must be positive.")
    factors = [factor / total for factor in factors]
    return weighted_sum([work(expert) for expert in experts], factors).to(pretrained.dtype)
