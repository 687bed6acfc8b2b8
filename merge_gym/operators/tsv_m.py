"""TSV-Merge: task singular vectors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from merge_gym.operators._matrices import orthogonalise, rank
from merge_gym.operators._task_vectors import add, task_vectors, total
from merge_gym.operators.registry import Weight, operator


@operator(scope="tensor", scopes=("tensor",))
def tsv_m(pretrained: Tensor, experts: Sequence[Tensor], *, weight: Weight = 1.0) -> Tensor:
    r"""Keep each task's leading singular vectors and make those of different tasks orthogonal.

    .. math::
        \theta = \theta_{pt} + \hat U \, \Sigma \, \hat V^\top, \qquad
        U = [U_1 \dots U_N], \quad \Sigma = \mathrm{diag}(\Sigma_1 \dots \Sigma_N), \quad
        V = [V_1 \dots V_N]

    Each task contributes its min(m, n) / N greatest singular values (at least one) with their
    vectors, and the hats stand for the nearest matrix with orthonormal columns (Procrustes).
    ``weight``, the task vectors' λ, is 1 as published. A tensor that is not a matrix gets the mean
    of the task vectors. Components whose singular value is numerically zero are left out.

    Scope: ``tensor`` only, it needs the matrices.

    Source: Gargiulo et al. 2025, "Task Singular Vectors", arXiv:2412.00081.

    Elsewhere: the authors' code agrees where the kept vectors of different tasks are independent;
    where they coincide, as for identical experts, its second decomposition fills the gap with
    arbitrary directions. mergekit does not have it.
    """
    vectors = task_vectors(pretrained, experts, weight)
    if pretrained.dim() != 2:
        return add(pretrained, total(vectors) / len(vectors))
    parts = [_leading(vector, len(vectors)) for vector in vectors if vector.any()]
    if not parts:
        return pretrained.clone()
    left, values, right = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
    return add(pretrained, (orthogonalise(left) * values) @ orthogonalise(right).mT)


def _leading(matrix: Tensor, tasks: int) -> tuple[Tensor, Tensor, Tensor]:
    """A task's share of singular triplets, with the vectors as columns."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    share = min(max(1, len(s) // tasks), rank(s, matrix.shape))
    return u[:, :share], s[:share], vh[:share].mT
