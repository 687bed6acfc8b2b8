"""Where recipes are scored."""

from __future__ import annotations

from multiprocessing import context, current_process

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


def one_thread_in_a_fork() -> None:
    """Give torch one thread in a forked worker: with more it would wait for ever for those that its
    parent had, since a fork copies none (pytorch#17199)."""
    if isinstance(current_process(), getattr(context, "ForkProcess", ())):
        torch.set_num_threads(1)
