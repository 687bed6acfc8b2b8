"""Where weights lie: in memory, or in files that are mapped into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import torch
from torch import Tensor

Allocate = Callable[[int, torch.dtype], Tensor]
"""Makes room for a vector of so many values of a dtype."""


def in_memory(size: int, dtype: torch.dtype) -> Tensor:
    """A vector in memory, its values arbitrary."""
    return torch.empty(size, dtype=dtype)


def on_disk(size: int, dtype: torch.dtype) -> Tensor:
    """A vector in a file in the directory for temporary files (`TMPDIR`).

    The system reads pages when they are touched and takes them back when memory is short. The file
    has no name and goes with the process.

    Raises OSError where the disk lacks the room.
    """
    with tempfile.NamedTemporaryFile(prefix="merge-gym-") as file:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
        return torch.from_file(file.name, shared=True, size=size, dtype=dtype)


def physical_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
