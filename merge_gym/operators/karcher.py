"""The Karcher mean of the experts' directions."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merge_gym.operators._sphere import inner
from merge_gym.operators._task_vectors import weighted_sum, work
from merge_gym.operators.registry import Range, operator

_TOLERANCE = 1e-5


@operator(scope="tensor")
def karcher(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    iterations: Annotated[int, Range(1)] = 10,
) -> Tensor:
    r"""The point on the sphere with the least squared arc length to all experts' directions.

    .. math::
        \theta = \bar n \, \arg\min_{\lVert\mu\rVert=1}
            \sum_i \arccos^2\!\left(\mu \cdot \frac{\theta_i}{\lVert\theta_i\rVert}\right),
        \qquad \bar n = \frac{1}{N} \sum_i \lVert\theta_i\rVert

    SLERP for any number of experts. It is found by Riemannian gradient descent from the normalised
    mean: at most ``iterations`` steps (10, mergekit's number), fewer once a step is shorter than
    1e-5. Experts that are zero have no direction and count only in the mean norm. The pretrained
    values are not used.

    Scope: ``tensor``, as in mergekit.

    Source: Karcher 1977, "Riemannian center of mass and mollifier smoothing"; for merging models,
    mergekit's ``karcher`` and Wang et al. 2026, arXiv:2603.04972.

    Elsewhere: mergekit does the same steps; it treats norms below 1e-5 as zero.
    """
    norms = [float(work(expert).norm()) for expert in experts]
    units = [work(expert) / norm for expert, norm in zip(experts, norms, strict=True) if norm > 0]
    if not units:
        return torch.zeros_like(pretrained)
    share = [1 / len(units)] * len(units)
    mean = weighted_sum(units, share)
    mean = units[0] if mean.norm() < _TOLERANCE else mean / mean.norm()
    for _ in range(iterations):
        step = weighted_sum([_towards(mean, unit) for unit in units], share)
        length = float(step.norm())
        if length < _TOLERANCE:
            break
        mean = mean * math.cos(length) + step * (math.sin(length) / length)
        mean = mean / mean.norm()
    return (mean * (sum(norms) / len(norms))).to(pretrained.dtype)


def _towards(start: Tensor, end: Tensor) -> Tensor:
    """The tangent at one unit vector that leads to another and is as long as the arc."""
    cos = max(-1.0, min(1.0, inner(start, end)))
    angle = math.acos(cos)
    if angle < _TOLERANCE or math.pi - angle < _TOLERANCE:
        return torch.zeros_like(start)
    return (end - start * cos) * (angle / math.sin(angle))
