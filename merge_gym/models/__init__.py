"""How an architecture opens: stem → layers (in segments) → tail, one adapter a family.

A new family is one new file in this folder with a function decorated by `@adapter`; nothing else
changes.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from merge_gym.models import torchvision_shim

torchvision_shim.install()

from merge_gym.models.adapter import ADAPTERS, ModelAdapter, Place, adapter, adapter_for  # noqa: E402
from merge_gym.models.check import check_forward  # noqa: E402
from merge_gym.models.checkpoint import (  # noqa: E402
    Checkpoint,
    check_checkpoint,
    common_dtype,
    load_checkpoint,
)
from merge_gym.models.parameters import Layout, Parameters  # noqa: E402

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "ADAPTERS",
    "Checkpoint",
    "Layout",
    "ModelAdapter",
    "Parameters",
    "Place",
    "adapter",
    "adapter_for",
    "check_checkpoint",
    "check_forward",
    "common_dtype",
    "load_checkpoint",
]
