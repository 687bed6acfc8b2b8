"""DELLA-Merging."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import (
    Consensus,
    add,
    agree,
    rows,
    seeded,
    task_vectors,
    uniform,
)
from merge_gym.operators.registry import Range, Weight, operator


@operator(scope="tensor")
def della(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    density: Annotated[float, Range(0, 1)] = 0.66,
    epsilon: Annotated[float, Range(0, 0.5)] = 0.15,
    weight: Weight = 1.0,
    consensus: Consensus = "mean",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Drop entries at random, small ones more often, rescale each; then elect signs and merge.

    .. math::
        p = density - \varepsilon + 2 \varepsilon \frac{rank - 1}{n - 1}, \qquad
        m \sim \mathrm{Bernoulli}(p), \qquad
        \hat\tau_i = \frac{m}{p} \odot (\theta_i - \theta_{pt})

    followed by the election and the disjoint mean of ``ties``. ``rank`` counts from the smallest
    magnitude in the entry's row (the last dimension, of n entries), so p runs over a window of
    2ε around ``density``, and every kept entry is divided by its own p, which preserves its
    expectation. Near density 0 or 1 ε (``epsilon``) shrinks so that p stays a probability.
    ``weight`` is λ, and ``consensus="sum"`` leaves out the division by the number that agree.

    The paper tunes everything; the defaults here are the density of ``dare``, mergekit's ε
    and λ = 1. With ε = 0 it is ``dare_ties``.

    Scope: ``tensor``, row by row; a layer or a model in one vector counts as one row.

    Source: Deep et al. 2024, "DELLA-Merging", arXiv:2406.11617 (MAGPRUNE).

    Elsewhere: the authors' code (its ``window_size`` is 2ε, 0 by default) counts a cancelled entry
    as positive. mergekit restores the sum of magnitudes instead of dividing by p, which no longer
    undoes the bias towards large entries.
    """
    random = seeded(generator)
    vectors = task_vectors(pretrained, experts, weight)
    thinned = [_magprune(vector, density, epsilon, random) for vector in vectors]
    return add(pretrained, agree(thinned, consensus))


def _magprune(vector: Tensor, density: float, epsilon: float, random: torch.Generator) -> Tensor:
    epsilon = min(epsilon, density, 1 - density)
    magnitude = rows(vector).abs()
    columns = magnitude.shape[-1]
    order = magnitude.argsort(dim=-1, stable=True)
    places = torch.linspace(-epsilon, epsilon, columns) if columns > 1 else torch.zeros(1)
    probability = torch.empty_like(magnitude).scatter_(
        -1, order, (density + places.to(magnitude)).expand_as(magnitude)
    )
    probability = probability.reshape(vector.shape)
    keep = uniform(vector, random) < probability
    return (vector / probability).where(keep, 0)
