"""RAM: reinforced agent merging."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merge_gym.operators._task_vectors import add, task_vectors
from merge_gym.operators.registry import Range, operator


@operator(scope="tensor")
def ram(
    pretrained: Tensor,
    experts: Sequence[Tensor],
    *,
    epsilon: Annotated[float, Range(0)] = 1e-5,
) -> Tensor:
    r"""Average what several experts changed, and keep whole what only one of them changed.

    .. math::
        \theta = \theta_{pt} + \frac{1}{|C|} \sum_{i \in C} (\theta_i - \theta_{pt}), \qquad
        C = \{i : |\theta_i - \theta_{pt}| > \varepsilon\}

    entry by entry; where C is empty the pretrained value stays. Made for experts trained by
    reinforcement learning, which change few entries. ``epsilon`` is the published threshold.

    Scope: any, the operator works entry by entry.

    Source: Yuan et al. 2026, "Behavior Knowledge Merge in Reinforced Agentic Models",
    arXiv:2601.13572 (RAM; its RAM+ also scales up what is unique to an expert).

    Elsewhere: mergekit's ``ram`` agrees.
    """
    vectors = task_vectors(pretrained, experts)
    merged, count = torch.zeros_like(vectors[0]), torch.zeros_like(vectors[0])
    for vector in vectors:
        changed = vector.abs() > epsilon
        merged.add_(vector.where(changed, 0))
        count.add_(changed)
    return add(pretrained, merged.div_(count.clamp_(min=1)))
