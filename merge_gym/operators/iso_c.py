"""Iso-C: isotropic merging in the common subspace."""

from collections.abc import Sequence

from torch import Tensor

from merge_gym.operators._matrices import orthogonalise
from merge_gym.operators._task_vectors import add, task_vectors, total
from merge_gym.operators.registry import Weight, operator


@operator(scope="tensor", scopes=("tensor",))
def iso_c(pretrained: Tensor, experts: Sequence[Tensor], *, weight: Weight | None = None) -> Tensor:
    r"""Task arithmetic with all singular values of the merged matrix set to their mean.

    .. math::
        U \Sigma V^\top = \sum_i \lambda_i (\theta_i - \theta_{pt}), \qquad
        \theta = \theta_{pt} + \bar\sigma \, U V^\top, \qquad
        \bar\sigma = \frac{\mathrm{tr}\,\Sigma}{\min(m, n)}

    Without a ``weight`` λ = 1/N. A tensor that is not a matrix gets the sum itself, without the
    flattening. Directions in which the sum is numerically zero stay zero.

    Scope: ``tensor`` only, it needs the matrices.

    Source: Marczak et al. 2025, "No Task Left Behind", arXiv:2502.04959, section 4.

    Elsewhere: the authors add up the task vectors and tune one factor on validation data, which is
    the same for matrices; theirs averages what is not a matrix. They also lift zero directions,
    which are arbitrary. mergekit does not have it.
    """
    merged = total(
        task_vectors(pretrained, experts, 1 / len(experts) if weight is None else weight)
    )
    if merged.dim() != 2:
        return add(pretrained, merged)
    direction = orthogonalise(merged)
    # <U Vᵀ, U Σ Vᵀ> is the sum of the singular values.
    mean = (direction * merged).sum() / min(merged.shape)
    return add(pretrained, direction * mean)
