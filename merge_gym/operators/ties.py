"""TIES-Merging."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from merge_gym.operators._selection import pieces
from merge_gym.operators._task_vectors import (
    Consensus,
    add,
    agree,
    one_by_one,
    smallest_kept,
    task_vectors,
)
from merge_gym.operators.registry import Range, Weight, operator


def thresholds(
    pretrained: Tensor, experts: Sequence[Tensor], *, density: float, weight: Weight, **_: Any
) -> list[Tensor]:
    """The smallest magnitude that each weighted task vector keeps."""
    return [smallest_kept(vector, density) for vector in one_by_one(pretrained, experts, weight)]


@operator(scope="model", whole=thresholds)
def ties(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    density: Annotated[float, Range(0, 1)] = 0.2,
    weight: Weight = 1.0,
    consensus: Consensus = "mean",
    facts: Sequence[Tensor] | None = None,
) -> Tensor:
    r"""Trim each task vector, elect a sign for each entry, and merge the values that have it.

    .. math::
        \hat\tau_i = \mathrm{keep\ largest}_{density}(\theta_i - \theta_{pt}), \quad
        \gamma = \mathrm{sgn} \sum_i \lambda_i \hat\tau_i, \quad
        \theta = \theta_{pt} + \frac{1}{|A|} \sum_{i \in A} \lambda_i \hat\tau_i, \quad
        A = \{i : \mathrm{sgn}(\lambda_i \hat\tau_i) = \gamma \neq 0\}

    entry by entry. ``density`` is the share kept (the paper's k, 20 %), ``weight`` is λ (1, the
    paper's choice where nothing can be tuned), ``consensus="sum"`` leaves out the division by |A|.
    An entry whose values cancel exactly elects no sign and keeps its pretrained value.

    Scope: ``model``, the published code trims over the whole flattened model.

    Source: Yadav et al. 2023, "TIES-Merging", arXiv:2306.01708.

    Elsewhere: the authors' code keeps one entry more than the share, and gives a cancelled entry
    the majority sign of the whole model. mergekit trims each tensor by itself, its default density
    of 1 trims nothing, it breaks ties at the threshold by position, counts a cancelled entry as
    positive, and divides by the agreeing experts' weights instead of their number. The code of
    Reinforced Model Merging sums (density 0.3), and its trimming has no effect.
    """
    if facts is None:
        facts = thresholds(pretrained, experts, density=density, weight=weight)
    merged = torch.empty_like(pretrained, memory_format=torch.contiguous_format)
    given = [pretrained.contiguous(), *(expert.contiguous() for expert in experts)]
    for result, base, *models in pieces(merged, *given):
        vectors = task_vectors(base, models, weight)
        trimmed = [v.mul_(v.abs() >= least) for v, least in zip(vectors, facts, strict=True)]
        result.copy_(add(base, agree(trimmed, consensus)))
    return merged
