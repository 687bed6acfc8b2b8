"""How modules are stored: whole numbers with a scale for each row, residuals in bits or factors."""

from __future__ import annotations

import torch
from torch import Tensor

from merge_gym.library import is_matrix, rows_and_columns

Stored = dict[str, Tensor]
"""What is kept of one tensor, by what it is."""

RANGES = torch.linspace(0.3, 1.0, 15)
"""Shares of a row's greatest value that its range is shrunk to, where that lowers the error."""


def quantised(tensor: Tensor, bits: int | None) -> Stored:
    """A matrix as symmetric whole numbers of `bits` and a scale for each row.

    Below 8 bits the range of each row is that of least squared error. Vectors, and everything with
    None, stay as they are.
    """
    if bits is None or not is_matrix(tuple(tensor.shape)):
        return {"whole": tensor}
    matrix = _matrix(tensor)
    top = 2 ** (bits - 1) - 1
    greatest = matrix.abs().amax(1, keepdim=True).clamp(min=1e-12)
    scale = greatest / top if bits == 8 else _least_error(matrix, greatest, top)
    codes = (matrix / scale).round().clamp(-top, top).to(torch.int8)
    return {"codes": packed(codes, bits), "scales": scale.flatten()}


def restored(stored: Stored, shape: tuple[int, ...], bits: int | None) -> Tensor:
    """The tensor that `quantised` kept."""
    if "whole" in stored:
        return stored["whole"]
    assert bits is not None
    rows, columns = rows_and_columns(shape)
    codes = unpacked(stored["codes"], bits, rows * columns).view(rows, columns)
    return (codes.float() * stored["scales"][:, None]).view(shape)


def residual(tensor: Tensor, rank: int) -> Stored:
    """A residual's matrix as two factors in half precision, or with rank 0 as its signs and one
    size, the mean of its absolute values (BitDelta, arXiv:2402.10193); vectors whole."""
    if not is_matrix(tuple(tensor.shape)):
        return {"whole": tensor}
    matrix = _matrix(tensor)
    if rank == 0:
        signs = packed((matrix >= 0).to(torch.int8), 1)
        return {"signs": signs, "size": matrix.abs().mean().view(1)}
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    return {
        "left": (left[:, :rank] * root).half().contiguous(),
        "right": (root[:, None] * right[:rank]).half().contiguous(),
    }


def restored_residual(stored: Stored, shape: tuple[int, ...]) -> Tensor:
    """The tensor that `residual` kept."""
    if "whole" in stored:
        return stored["whole"]
    if "left" in stored:
        return (stored["left"].float() @ stored["right"].float()).view(shape)
    signs = unpacked(stored["signs"], 1, torch.Size(shape).numel())
    return ((2 * signs.float() - 1) * stored["size"]).view(shape)


def packed(codes: Tensor, bits: int) -> Tensor:
    """Whole numbers of `bits` (of 1: 0 and 1) as bytes, the first in the lowest bits."""
    flat = codes.flatten()
    if bits == 8:
        return flat
    each = 8 // bits
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % each)).view(-1, each).int()
    shifts = torch.arange(0, 8, bits)
    return ((padded & (2**bits - 1)) << shifts).sum(1).to(torch.uint8)


def unpacked(data: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` numbers that `packed` laid down, int8; signed but those of one bit."""
    if bits == 8:
        return data[:count]
    numbers = (data[:, None].int() >> torch.arange(0, 8, bits)) & (2**bits - 1)
    signed = numbers if bits == 1 else numbers - (numbers >= 2 ** (bits - 1)).int() * 2**bits
    return signed.flatten()[:count].to(torch.int8)


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.reshape(rows_and_columns(tuple(tensor.shape))).float()


def _least_error(matrix: Tensor, greatest: Tensor, top: int) -> Tensor:
    """The scale of each row, shape (rows, 1), of least squared error."""
    scales = greatest * RANGES / top
    errors = [
        (matrix - (matrix / scale).round().clamp(-top, top) * scale).square().sum(1)
        for scale in scales.T[:, :, None]
    ]
    best = torch.stack(errors, 1).argmin(1, keepdim=True)
    return scales.gather(1, best)
