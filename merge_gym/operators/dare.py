"""DARE: drop and rescale."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import add, drop, seeded, task_vectors, total
from merge_gym.operators.registry import Range, Weight, operator


@operator(scope="tensor")
def dare(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    density: Annotated[float, Range(0, 1)] = 0.66,
    weight: Weight = 1.0,
    rescale: Literal["density", "l1"] = "density",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Keep each entry of each task vector at random, rescale, and add them up.

    .. math::
        \theta = \theta_{pt} + \sum_i \lambda_i \frac{m_i}{p} \odot (\theta_i - \theta_{pt}),
        \qquad m_i \sim \mathrm{Bernoulli}(p)

    ``density`` is the probability p to keep (one minus the paper's drop rate). Its default of 0.66
    is that of Reinforced Model Merging, whose operator bank is the one this environment follows;
    DARE itself tunes the drop rate. ``weight`` is λ, by default 1 as in both codes, so that a
    single expert comes back on average. ``rescale="l1"`` restores each task vector's sum of
    magnitudes instead of dividing by p. At density 0 everything is dropped and the pretrained
    values come back. The experts draw one after the other from ``generator``.

    Scope: any for ``rescale="density"``, as entries are independent; with ``l1`` it is where the
    magnitudes are summed, ``tensor`` as in mergekit.

    Source: Yu et al. 2024, "Language Models are Super Mario", arXiv:2311.03099.

    Elsewhere: the authors' code (MergeLM) agrees. mergekit's ``dare_linear`` rescales by ``l1``
    since it dropped 1/p, and its default density of 1 drops nothing. In the code of Reinforced
    Model Merging the dropping has no effect.
    """
    random = seeded(generator)
    vectors = task_vectors(pretrained, experts, weight)
    return add(pretrained, total([drop(vector, density, random, rescale) for vector in vectors]))
