"""What the operators on matrices share."""

import torch
from torch import Tensor


def rank(singular_values: Tensor, shape: torch.Size) -> int:
    """How many of the descending singular values are not numerically zero."""
    tolerance = max(shape) * torch.finfo(singular_values.dtype).eps * singular_values[0]
    return int((singular_values > tolerance).sum())


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns: U Vᵀ of its decomposition U Σ Vᵀ.

    Directions in which the matrix is numerically zero stay zero; the decomposition would fill them
    with arbitrary ones.
    """
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    filled = rank(s, matrix.shape)
    return torch.mm(u[:, :filled], vh[:filled])
