"""Small helpers shared by the operators' tests."""

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from merge_gym import operators
from merge_gym.settings import Setting

ISSUED = {
    "average", "slerp", "nuslerp", "karcher", "task_arithmetic", "balanced_task_arithmetic",
    "ties", "dare", "dare_ties", "breadcrumbs", "della", "pcb", "model_stock", "sce", "ram",
    "consensus", "emr", "magmax", "iso_c", "tsv_m", "regmean", "fisher",
}  # fmt: skip
"""Operators that stay under their names, scopes and laws; a new one may join them."""


def as_many(name: str, wanted: int) -> int:
    """The number of experts nearest to the wanted one that an operator merges."""
    found = operators.get(name)
    return max(found.min_experts, min(wanted, found.max_experts or wanted))


def tensor(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def merge(name: str, pretrained: Tensor, experts: Sequence[Tensor], **settings: Any) -> Tensor:
    """``operators.merge``, with statistics for the operators that need them."""
    return operators.merge(
        name, pretrained, experts, **statistics(name, pretrained, experts), **settings
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


def merged(name: str, *task_vectors: Sequence[Any] | Tensor, **settings: Any) -> Tensor:
    """The task vector that an operator makes of others, around pretrained values of one."""
    vectors = [torch.as_tensor(vector, dtype=torch.float64) for vector in task_vectors]
    pretrained = torch.ones_like(vectors[0])
    experts = [pretrained + vector for vector in vectors]
    return operators.merge(name, pretrained, experts, **settings) - pretrained


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


def any_settings(name: str, experts: int) -> st.SearchStrategy[dict[str, Any]]:
    """Any settings that an operator takes, the ends of their ranges included; where these have no
    bounds, numbers are from -4 to 4, whole numbers from -10 to 10, and texts are short."""
    found = operators.get(name).settings
    return st.fixed_dictionaries({key: _values(of, experts) for key, of in found.items()})


def _values(setting: Setting, experts: int) -> st.SearchStrategy[Any]:
    low, high = setting.range.low, setting.range.high
    one: st.SearchStrategy[Any] = {
        "number": st.floats(max(low, -4.0), min(high, 4.0)),
        "integer": st.integers(int(max(low, -10)), int(min(high, 10))),
        "flag": st.booleans(),
        "choice": st.sampled_from(setting.choices or ("",)),
        "text": st.text(max_size=5),
    }[setting.kind]
    if setting.per_expert:
        one |= st.lists(one, min_size=experts, max_size=experts)
    return st.none() | one if setting.optional else one
