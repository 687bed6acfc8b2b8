"""Interpolation on a sphere, shared by SLERP, NuSLERP and the Karcher mean."""

import math

import torch
from torch import Tensor

NEARLY_PARALLEL = 0.9995
"""Beyond this cosine, or below its negative, the arc is numerically no better than the chord."""


def inner(first: Tensor, second: Tensor) -> float:
    """The sum of products, in double precision, since nearly parallel tensors ask for it."""
    return float((first * second).sum(dtype=torch.float64))


def cosine(first: Tensor, second: Tensor) -> float:
    """The cosine of the angle between two tensors of any shape; 1 if one of them is zero."""
    norms = float(first.norm()) * float(second.norm())
    if norms == 0:
        return 1.0
    return max(-1.0, min(1.0, inner(first, second) / norms))


def slerp_between(first: Tensor, second: Tensor, t: float) -> Tensor:
    """The point at fraction ``t`` of the arc from one tensor to another, or of the chord."""
    cos = cosine(first, second)
    if abs(cos) > NEARLY_PARALLEL:
        return torch.lerp(first, second, t)
    angle = math.acos(cos)
    near, far = math.sin((1 - t) * angle), math.sin(t * angle)
    return (first * near).add_(second, alpha=far).div_(math.sin(angle))
