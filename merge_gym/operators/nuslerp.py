"""Spherical interpolation of two task vectors."""

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from merge_gym.operators._sphere import slerp_between
from merge_gym.operators._task_vectors import add, task_vectors, weights
from merge_gym.operators.registry import Range, Weight, operator


@operator(scope="tensor", experts=(2, 2))
def nuslerp(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Weight, Range(0)] = 1.0,
) -> Tensor:
    r"""Move from the first expert's task vector to the second's along the arc between them.

    .. math::
        \theta = \theta_{pt} + \mathrm{slerp}(\theta_1 - \theta_{pt}, \theta_2 - \theta_{pt}, t),
        \qquad t = \frac{w_2}{w_1 + w_2}

    See ``slerp`` for the arc and its linear fallback. ``weight`` is w; equal weights, the default,
    are halfway, and so are two zero weights.

    Scope: ``tensor``, the angle of each tensor, as in mergekit.

    Source: mergekit's ``nuslerp`` with a base model; there is no paper.

    Elsewhere: mergekit falls back to linear only when the vectors are parallel to within rounding,
    takes a zero vector to be orthogonal, and can also work row by row or column by column.
    """
    first, second = weights(weight, 2)
    t = second / (first + second) if first + second > 0 else 0.5
    start, end = task_vectors(pretrained, experts)
    return add(pretrained, slerp_between(start, end, t))
