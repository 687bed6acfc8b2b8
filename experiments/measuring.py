"""What a computation costs."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Cost:
    """What a computation took.

    Attributes:
        seconds: CPU time of the process.
        mebibytes: growth of the peak resident memory, results included; None where the system does
            not tell (it does on Linux).
    """

    seconds: float
    mebibytes: float | None


def measure(action: Callable[[], object]) -> Cost:
    """Run `action` once and say what it took."""
    _forget_peak()
    before, started = _resident("VmRSS"), time.process_time()
    result = action()
    seconds, after = time.process_time() - started, _resident("VmHWM")
    del result
    return Cost(seconds, None if before is None or after is None else (after - before) / MEBIBYTE)


def _forget_peak() -> None:
    """Hand freed memory back and let VmHWM start again from what is resident now."""
    if sys.platform == "linux":
        release = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if release is not None:
            release(0)
        STATUS.with_name("clear_refs").write_text("5")


def _resident(field: str) -> int | None:
    """Resident memory in bytes: `VmRSS` now, `VmHWM` at the peak."""
    if sys.platform != "linux":
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])
