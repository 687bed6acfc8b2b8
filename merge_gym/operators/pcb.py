"""PCB-Merging: parameter competition balancing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from merge_gym.operators._selection import kth_smallest, pieces
from merge_gym.operators._task_vectors import (
    add,
    one_by_one,
    task_vectors,
    total,
    weights,
)
from merge_gym.operators.registry import Range, Weight, operator

_OUTLIERS = 1e-4


@dataclass(frozen=True)
class Limits:
    """What the standing of one expert's entries is measured by.

    Attributes:
        smallest, largest: the magnitudes at which its entries are clipped.
        least, most: the score from which the kept share begins, and the greatest one.
    """

    smallest: Tensor
    largest: Tensor
    least: Tensor
    most: Tensor


def limits(
    pretrained: Tensor, experts: Sequence[Tensor], *, density: float, **_: Any
) -> list[Limits]:
    """The limits of each expert's entries, from all of them."""
    together, found = total(one_by_one(pretrained, experts)), []
    for vector in one_by_one(pretrained, experts):
        magnitude = vector.abs()
        smallest = _quantile(magnitude, _OUTLIERS)
        largest = _quantile(magnitude, 1 - _OUTLIERS, 1)
        score = magnitude.clamp_(smallest, largest)
        for part, own, of_all in pieces(score, vector, together):
            part.copy_(_score(part, own, of_all, smallest, largest, len(experts)))
        found.append(Limits(smallest, largest, _quantile(score, 1 - density), score.max()))
    return found


@operator(scope="model", whole=limits)
def pcb(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    density: Annotated[float, Range(0, 1)] = 0.1,
    weight: Weight = 1.0,
    facts: Sequence[Limits] | None = None,
) -> Tensor:
    r"""Weigh each entry by its standing within its own task and its agreement with the others.

    .. math::
        \beta_i = \exp\!\big(N \, \mathrm{norm}(|\tau_i|)^2\big)
                  \odot \tanh\!\Big(\tau_i \odot \sum_j \tau_j\Big), \qquad
        s_i = \mathrm{norm}\big(\mathrm{top}_{density}(\beta_i)\big), \qquad
        \theta = \theta_{pt} + \frac{\sum_i \lambda_i s_i \odot \tau_i}{\sum_i s_i}

    with norm stretching to [0, 1], and magnitudes clipped at their 0.01 % and 99.99 % quantiles
    first. Scores below the ``density`` share become 0, so an entry that no expert scores keeps its
    pretrained value. ``weight`` is λ; the defaults are the published function's. Where all scores
    are equal nothing stands out and the pretrained values come back.

    Scope: ``model``, as published.

    Source: Du et al. 2024, "Parameter Competition Balancing for Model Merging", arXiv:2410.02396,
    as in the function ``PCB_merge`` of the authors' ``pcb-merging.py``.

    Elsewhere: the authors' second file, ``vision_source_code/pcb.py``, clips at 1 % and 99 %, sums
    normalised instead of raw task vectors inside tanh, keeps 5 % and uses λ = 1.2; the paper
    writes softmax where both files have exp and tanh. mergekit does not have it.
    """
    if facts is None:
        facts = limits(pretrained, experts, density=density)
    factors = weights(weight, len(experts))
    merged = torch.empty_like(pretrained, memory_format=torch.contiguous_format)
    given = [pretrained.contiguous(), *(expert.contiguous() for expert in experts)]
    for result, base, *models in pieces(merged, *given):
        result.copy_(add(base, _competition(task_vectors(base, models), factors, facts)))
    return merged


def _competition(
    vectors: Sequence[Tensor], factors: Sequence[float], facts: Sequence[Limits]
) -> Tensor:
    """The mean of the clipped task vectors, weighted by their kept scores."""
    together = total(vectors)
    merged, scores = torch.zeros_like(together), torch.zeros_like(together)
    for vector, factor, of in zip(vectors, factors, facts, strict=True):
        clipped = vector.abs().clamp_(of.smallest, of.largest)
        score = _score(clipped, vector, together, of.smallest, of.largest, len(vectors))
        kept = _stretched(score.clamp_(min=of.least), of.least, of.most)
        scores.add_(kept)
        merged.addcmul_(kept, clipped.copysign_(vector), value=factor)
    return merged.div_(scores.clamp_(min=1e-12))


def _score(
    clipped: Tensor, vector: Tensor, together: Tensor, smallest: Tensor, largest: Tensor, count: int
) -> Tensor:
    """The score β of each entry of one of ``count`` experts."""
    standing = _stretched(clipped, smallest, largest).square_().mul_(count).exp_()
    return standing.mul_((vector * together).tanh_())


def _quantile(values: Tensor, fraction: float, below: int = 0) -> Tensor:
    """The published code's quantile: the sorted values at ``int(n * fraction) - below``."""
    place = int(values.numel() * fraction - below)
    return kth_smallest(values, min(max(place, 0) + 1, values.numel()))


def _stretched(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The values with the smallest mapped to 0 and the greatest to 1; equal values all to 0."""
    return (values - low).div_(torch.where(high > low, high - low, 1))
