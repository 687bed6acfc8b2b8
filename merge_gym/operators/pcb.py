"""PCB-Merging: parameter competition balancing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from merge_gym.operators._selection import kth_smallest, pieces
from merge_gym.operators._task_vectors import add, one_by_one, total, weights
from merge_gym.operators.registry import Range, Weight, operator

_OUTLIERS = 1e-4


@dataclass(frozen=True)
class Limits:
    """What the standing of an expert's entries is measured by, over the whole model.

    Attributes:
        smallest, largest: of its clipped magnitudes.
        least, most: the score from which the kept share begins, and the greatest one.
    """

    smallest: Tensor
    largest: Tensor
    least: Tensor
    most: Tensor


def scoring(
    pretrained: Tensor, experts: Sequence[Tensor], *, density: float, weight: Weight
) -> list[Limits]:
    """The limits of each expert."""
    together, found = total(one_by_one(pretrained, experts)), []
    for vector in one_by_one(pretrained, experts):
        magnitude = vector.abs()
        clipped = _quantile(magnitude, _OUTLIERS), _quantile(magnitude, 1 - _OUTLIERS, 1)
        smallest, largest = magnitude.clamp_(*clipped).aminmax()
        limits = Limits(smallest, largest, smallest, largest)
        _, score = _competition(vector, together, limits, len(experts))
        least = _quantile(score, 1 - density)
        most = score.clamp_(min=least).max()
        found.append(Limits(smallest, largest, least, most))
    return found


@operator(scope="model", whole=scoring)
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
        facts = scoring(pretrained, experts, density=density, weight=weight)
    together = total(one_by_one(pretrained, experts))
    merged, scores = torch.zeros_like(together), torch.zeros_like(together)
    factors = weights(weight, len(experts))
    vectors = one_by_one(pretrained, experts)
    for vector, factor, of in zip(vectors, factors, facts, strict=True):
        magnitude, score = _competition(vector, together, of, len(experts))
        score = (
            _stretch(score.clamp_(min=of.least), of.least, of.most) if density > 0 else score * 0
        )
        scores.add_(score)
        merged.addcmul_(score, magnitude.copysign_(vector), value=factor)
    return add(pretrained, merged.div_(scores.clamp_(min=1e-12)))


def _competition(
    vector: Tensor, together: Tensor, limits: Limits, experts: int
) -> tuple[Tensor, Tensor]:
    """An expert's clipped magnitudes, and the score β of each entry."""
    magnitude = vector.abs().clamp_(limits.smallest, limits.largest)
    stretched = _stretch(magnitude.clone(), limits.smallest, limits.largest)
    score = stretched.square_().mul_(experts).exp_()
    for part, own, sum_of_all in pieces(score, vector, together):
        part.mul_((own * sum_of_all).tanh_())
    return magnitude, score


def _quantile(values: Tensor, fraction: float, below: int = 0) -> Tensor:
    """The published code's quantile: the sorted values at ``int(n * fraction) - below``."""
    place = int(values.numel() * fraction - below)
    return kth_smallest(values, min(max(place, 0) + 1, values.numel()))


def _stretch(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Map the smallest value to 0 and the greatest to 1, in place; equal values all to 0."""
    return values.sub_(low).div_(torch.where(high > low, high - low, 1))
