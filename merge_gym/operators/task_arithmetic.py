"""Task arithmetic."""

from collections.abc import Sequence

from torch import Tensor

from merge_gym.operators._task_vectors import add, task_vectors, total
from merge_gym.operators.registry import Weight, operator


@operator(scope="tensor")
def task_arithmetic(
    pretrained: Tensor, experts: Sequence[Tensor], *, weight: Weight = 0.3
) -> Tensor:
    r"""Add the experts' task vectors to the pretrained values.

    .. math:: \theta = \theta_{pt} + \sum_i \lambda_i (\theta_i - \theta_{pt})

    ``weight`` is λ, one for all experts or one each. The paper tunes it on held-out data; the
    default is 0.3, the usual choice for its eight vision tasks where nothing can be tuned. (1/N
    would be plain averaging once more.)

    Scope: any, the operator works entry by entry.

    Source: Ilharco et al. 2023, "Editing models with task arithmetic", arXiv:2212.04089.

    Elsewhere: mergekit agrees with ``normalize: false`` (its default) and has no default weight;
    the authors' code multiplies the sum by one coefficient, default 1.
    """
    return add(pretrained, total(task_vectors(pretrained, experts, weight)))
