"""DARE followed by the sign election of TIES."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import (
    Consensus,
    add,
    agree,
    drop,
    seeded,
    task_vectors,
    weights,
)
from merge_gym.operators.registry import Range, Weight, operator


@operator(scope="tensor")
def dare_ties(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    density: Annotated[Weight, Range(0, 1)] = 0.66,
    weight: Weight = 1.0,
    consensus: Consensus = "mean",
    rescale: Literal["density", "l1"] = "density",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Thin the task vectors at random as DARE does, then elect signs and merge as TIES does.

    .. math::
        \hat\tau_i = \frac{m_i}{p} \odot (\theta_i - \theta_{pt}), \qquad
        \theta = \theta_{pt} + \frac{1}{|A|} \sum_{i \in A} \lambda_i \hat\tau_i

    with A the experts whose entry has the elected sign, see ``ties``. ``density``, one for all
    experts or one each, ``rescale`` and ``weight`` are those of ``dare`` with its defaults (keep
    0.66, λ = 1); ``consensus`` is that of ``ties``, by default the disjoint mean.

    Scope: any for ``rescale="density"``; see ``dare``.

    Source: Yu et al. 2024, "Language Models are Super Mario", arXiv:2311.03099, with
    Yadav et al. 2023, "TIES-Merging", arXiv:2306.01708.

    Elsewhere: the authors' code (MergeLM) also trims the dropped task vectors by magnitude (80 %)
    before the election. mergekit rescales by ``l1`` and sums (``normalize: false``); see ``ties``
    and ``dare`` for the rest.
    """
    random = seeded(generator)
    vectors = task_vectors(pretrained, experts, weight)
    densities = weights(density, len(experts))
    thinned = [
        drop(vector, kept, random, rescale) for vector, kept in zip(vectors, densities, strict=True)
    ]
    return add(pretrained, agree(thinned, consensus))
