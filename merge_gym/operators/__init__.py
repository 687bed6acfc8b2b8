"""Merge operators: pure functions from one tensor's values to the merged values.

Every module in this folder is imported here, so a new operator is one new file::

    @operator(scope="tensor")
    def my_merge(
        pretrained: Tensor, experts: Sequence[Tensor], *, weight: Weight = 1.0
    ) -> Tensor:
        '''Formula, defaults, source.'''

>>> import torch
>>> pretrained, experts = torch.zeros(2), [torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])]
>>> merge("average", pretrained, experts)
tensor([2., 0.])
"""

from importlib import import_module
from pkgutil import iter_modules

from merge_gym.operators.registry import (
    Operator,
    Range,
    Scope,
    Statistic,
    Weight,
    available,
    check,
    get,
    merge,
    operator,
)

__all__ = [
    "Operator",
    "Range",
    "Scope",
    "Statistic",
    "Weight",
    "available",
    "check",
    "get",
    "merge",
    "operator",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
