"""Norm-balanced task arithmetic."""

from collections.abc import Sequence

from torch import Tensor

from merge_gym.operators._task_vectors import add, one_by_one, total, weights
from merge_gym.operators.registry import Weight, operator


def balancing(
    pretrained: Tensor, experts: Sequence[Tensor], *, weight: Weight | None
) -> list[float]:
    """What each task vector is multiplied with, from its norm."""
    norms = [float(vector.norm()) for vector in one_by_one(pretrained, experts)]
    mean = sum(norms) / len(norms)
    given = weights(1 / len(experts) if weight is None else weight, len(experts))
    return [
        factor * mean / norm if norm > 0 else 0.0 for factor, norm in zip(given, norms, strict=True)
    ]


@operator(scope="model", whole=balancing)
def balanced_task_arithmetic(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Weight | None = None,
    facts: Sequence[float] | None = None,
) -> Tensor:
    r"""Task arithmetic with every task vector scaled to the same norm, their mean norm.

    .. math::
        \theta = \theta_{pt} + \sum_i \lambda_i \frac{\bar n}{\lVert\tau_i\rVert} \tau_i,
        \qquad \tau_i = \theta_i - \theta_{pt},
        \qquad \bar n = \frac{1}{N} \sum_i \lVert\tau_i\rVert

    An expert that was trained longer or at a greater learning rate has moved further, and would
    outvote the others; this takes that away without evaluating anything. Without a ``weight``
    λ = 1/N, which is averaging where the norms are equal already. A task vector that is zero stays
    zero.

    Scope: ``model``, one factor per expert, so that an expert's own balance between its layers
    stays; ``layer`` or ``tensor`` balance each of them by itself.

    Source: merge_gym's own. Neither mergekit nor a paper's code has it in this form.
    """
    if facts is None:
        facts = balancing(pretrained, experts, weight=weight)
    return add(pretrained, total(one_by_one(pretrained, experts, facts)))
