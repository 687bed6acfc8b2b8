"""Where recipes are scored."""

from __future__ import annotations

import torch


def check_device(name: str) -> torch.device:
    """The torch device called `name`; ValueError if this machine lacks it."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {name!r} is not there ({reason}); choose device='cpu', or install a torch "
            f"that was built for it"
        ) from None
    return device
