"""How a program ends that was asked for what cannot be done."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NoReturn


def refuse(error: Exception, directory: Path) -> NoReturn:
    """End the program with one line, and without the empty folder that Hydra made for it."""
    with suppress(OSError):  # it holds an earlier run
        directory.rmdir()
    raise SystemExit(f"error: {error}") from None
