"""Small helpers shared by the operators' tests."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from merge_gym import operators


def tensor(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def merge(
    name: str, pretrained: Tensor, experts: Sequence[Tensor], **hyperparameters: Any
) -> Tensor:
    """``operators.merge``, with statistics for the operators that need them."""
    return operators.merge(
        name, pretrained, experts, **statistics(name, pretrained, experts), **hyperparameters
    )


def statistics(name: str, pretrained: Tensor, experts: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """What an operator needs to know of data, made up from the task vectors."""
    needs = operators.get(name).needs
    wider = torch.promote_types(pretrained.dtype, torch.float32)
    vectors = [expert.detach().to(wider) - pretrained.detach().to(wider) for expert in experts]
    if needs == "fisher":
        return {"statistics": [vector.square() for vector in vectors]}
    if needs == "gram" and pretrained.dim() == 2:
        return {"statistics": [vector.T @ vector for vector in vectors]}
    return {}


def merged(name: str, *task_vectors: Sequence[Any] | Tensor, **hyperparameters: Any) -> Tensor:
    """The task vector that an operator makes of others, around pretrained values of one."""
    vectors = [torch.as_tensor(vector, dtype=torch.float64) for vector in task_vectors]
    pretrained = torch.ones_like(vectors[0])
    experts = [pretrained + vector for vector in vectors]
    return operators.merge(name, pretrained, experts, **hyperparameters) - pretrained


def random_models(
    shape: tuple[int, ...], experts: int = 2, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, list[Tensor]]:
    """Pretrained values and experts that have moved a little from them."""
    generator = torch.Generator().manual_seed(seed)
    pretrained = torch.randn(shape, generator=generator)
    moved = [pretrained + 0.1 * torch.randn(shape, generator=generator) for _ in range(experts)]
    return pretrained.to(dtype), [expert.to(dtype) for expert in moved]


def close(actual: Tensor, expected: Tensor | Sequence[Any], tolerance: float = 1e-9) -> None:
    wanted = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance)
