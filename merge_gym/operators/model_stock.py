"""Model Stock."""

from collections.abc import Sequence
from itertools import combinations

from torch import Tensor

from merge_gym.operators._sphere import cosine
from merge_gym.operators._task_vectors import add, task_vectors, weighted_sum
from merge_gym.operators.registry import operator


@operator(scope="tensor", experts=(2, None))
def model_stock(pretrained: Tensor, experts: Sequence[Tensor]) -> Tensor:
    r"""Move from the pretrained values towards the experts' mean, further the more they agree.

    .. math::
        \theta = \theta_{pt} + \frac{t}{N} \sum_i (\theta_i - \theta_{pt}), \qquad
        t = \frac{N \cos\alpha}{1 + (N - 1) \cos\alpha}

    cos α is the mean cosine over all pairs of task vectors; a pair with a zero task vector has
    cosine 0. t is kept within [0, 1], so disagreeing experts leave the pretrained values as
    they are. There is nothing to set.

    Scope: ``tensor``, as the paper's layer-wise rule.

    Source: Jang et al. 2024, "Model Stock", arXiv:2403.19522.

    Elsewhere: mergekit does not clamp t, so a negative cosine moves away from the mean, without
    bound near cos α = -1/(N - 1). The authors' repository holds no code.
    """
    vectors = task_vectors(pretrained, experts)
    moved = [bool(vector.any()) for vector in vectors]
    cosines = [
        cosine(vectors[i], vectors[j]) if moved[i] and moved[j] else 0.0
        for i, j in combinations(range(len(vectors)), 2)
    ]
    agreement = max(0.0, sum(cosines) / len(cosines))
    count = len(vectors)
    t = count * agreement / (1 + (count - 1) * agreement)
    return add(pretrained, weighted_sum(vectors, [t / count] * count))
