"""MagMax."""

from collections.abc import Sequence

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import add, task_vectors
from merge_gym.operators.registry import Weight, operator


@operator(scope="tensor")
def magmax(pretrained: Tensor, experts: Sequence[Tensor], *, weight: Weight = 0.5) -> Tensor:
    r"""Take each entry from the expert that changed it most.

    .. math::
        \theta = \theta_{pt} + \tau_{i^*}, \qquad i^* = \arg\max_i |\tau_i|, \qquad
        \tau_i = \lambda_i (\theta_i - \theta_{pt})

    entry by entry. ``weight`` is λ, 0.5 as in the authors' code. Of two opposite changes of the
    same size it takes the positive one.

    Scope: any, the operator works entry by entry.

    Source: Marczak et al. 2024, "MagMax", arXiv:2407.06322.

    Elsewhere: the authors' code takes the later of two opposite changes of the same size; their
    experts are fine-tuned one after the other. mergekit does not have it.
    """
    vectors = task_vectors(pretrained, experts, weight)
    highest, lowest = vectors[0], vectors[0]
    for vector in vectors[1:]:
        highest, lowest = torch.maximum(highest, vector), torch.minimum(lowest, vector)
    return add(pretrained, torch.where(-lowest > highest, lowest, highest))
