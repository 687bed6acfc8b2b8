"""Lets timm and transformers import beside a torch that torchvision was not built for.

A torchvision built against another torch (CUDA wheel beside a CPU torch) fails on import because
its compiled operators are not registered. Nothing here uses them, but timm and transformers import
torchvision unconditionally, so their schemas are declared without a kernel.
"""

from __future__ import annotations

import sys

_library = None  # torch drops the schemas when the Library object dies


def install() -> None:
    """Make `import torchvision` work; does nothing where it is absent or works by itself."""
    global _library
    if _library is not None:
        return
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import torch

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            _library.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
