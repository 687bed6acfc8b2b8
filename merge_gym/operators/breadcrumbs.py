"""Model Breadcrumbs."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import add, kept, rows, task_vectors, total
from merge_gym.operators.registry import Range, Weight, operator


@operator(scope="tensor")
def breadcrumbs(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    density: Annotated[float, Range(0, 1)] = 0.15,
    gamma: Annotated[float, Range(0, 1)] = 0.006,
    weight: Weight = 0.2,
) -> Tensor:
    r"""Drop each task vector's few largest and its many small entries, and add up the middle.

    .. math::
        \theta = \theta_{pt} + \sum_i \lambda_i \, m_i \odot (\theta_i - \theta_{pt})

    In every row (the last dimension), m keeps a share ``density`` of the entries: those with the
    largest magnitudes once the share ``gamma`` of the very largest is left out. Entries that tie
    with a kept one are kept. At density 1 nothing is left out. ``weight`` is λ. The defaults are
    the point at which the authors' own search starts.

    Scope: ``tensor``, row by row; a layer or a model in one vector counts as one row.

    Source: Davari and Belilovsky 2023, "Model Breadcrumbs", arXiv:2312.06795, and the authors'
    code, which ranks row by row.

    Elsewhere: the paper's β and γ are percentiles, so density = γ - β and gamma = 1 - γ. mergekit
    ranks the tensor as a whole; its defaults are density 1, which keeps everything, and gamma 0.01.
    """
    vectors = task_vectors(pretrained, experts, weight)
    return add(pretrained, total([_middle(vector, density, gamma) for vector in vectors]))


def _middle(vector: Tensor, density: float, gamma: float) -> Tensor:
    magnitude = rows(vector).abs()
    columns = magnitude.shape[-1]
    count = kept(density, columns)
    if count == 0:
        return torch.zeros_like(vector)
    left_out = min(round(gamma * columns), columns - count)
    largest = magnitude.kthvalue(columns - left_out, keepdim=True).values
    smallest = magnitude.kthvalue(columns - left_out - count + 1, keepdim=True).values
    middle = (magnitude >= smallest) & (magnitude <= largest)
    return vector.where(middle.reshape(vector.shape), 0)
