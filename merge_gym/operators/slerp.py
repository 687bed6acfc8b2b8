"""Spherical linear interpolation of two experts."""

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from merge_gym.operators._sphere import slerp_between
from merge_gym.operators._task_vectors import work
from merge_gym.operators.registry import Range, operator


@operator(scope="tensor", experts=(2, 2))
def slerp(
    pretrained: Tensor, experts: Sequence[Tensor], *, t: Annotated[float, Range(0, 1)] = 0.5
) -> Tensor:
    r"""Move from the first expert's values to the second's along the arc between them.

    .. math::
        \theta = \frac{\sin((1-t)\Omega)}{\sin\Omega} \theta_1
               + \frac{\sin(t\Omega)}{\sin\Omega} \theta_2,
        \qquad \cos\Omega = \frac{\theta_1 \cdot \theta_2}
                                 {\lVert\theta_1\rVert \lVert\theta_2\rVert}

    ``t`` is 0.5 by default, halfway. Where the cosine exceeds 0.9995 in magnitude, or one of the
    two is zero, it is linear interpolation. The pretrained values are not used.

    Scope: ``tensor``, the angle of each tensor, as in mergekit.

    Source: Shoemake 1985, "Animating rotation with quaternion curves"; for merging models it
    comes from mergekit, not from a paper.

    Elsewhere: mergekit's ``slerp`` agrees, except that it takes a zero vector to be orthogonal.
    """
    first, second = (work(expert) for expert in experts)
    return slerp_between(first, second, t).to(pretrained.dtype)
