"""The elected task vector of EMR-Merging."""

from collections.abc import Sequence

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import add, elect, task_vectors
from merge_gym.operators.registry import Weight, operator


@operator(scope="tensor")
def emr(pretrained: Tensor, experts: Sequence[Tensor], *, weight: Weight = 1.0) -> Tensor:
    r"""Elect a sign for each entry and take the largest value that has it.

    .. math::
        \theta = \theta_{pt} +
            \gamma \odot \max_{i : \mathrm{sgn}(\tau_i) = \gamma} |\tau_i|, \qquad
        \gamma = \mathrm{sgn} \sum_i \tau_i, \qquad
        \tau_i = \lambda_i (\theta_i - \theta_{pt})

    This is the unified task vector; EMR's masks and rescalers, which bring it back to each task,
    would make one model per task of it and are left out. ``weight`` is λ, 1 as in the authors'
    code.

    Scope: any, the operator works entry by entry.

    Source: Huang et al. 2024, "EMR-Merging", arXiv:2405.17461.

    Elsewhere: the authors' code counts a cancelled entry as negative, here it keeps its pretrained
    value; mergekit does not have it.
    """
    vectors = task_vectors(pretrained, experts, weight)
    sign = elect(vectors)
    largest = torch.zeros_like(sign)
    for vector in vectors:
        largest = torch.maximum(largest, vector * sign)
    return add(pretrained, largest.mul_(sign))
