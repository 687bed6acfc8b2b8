"""Files that survive a run being killed: whole JSON files, and JSON lines appended to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from merge_gym.files import replacing


def read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def write_json(file: Path, data: dict[str, Any]) -> None:
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n")


class JsonLines:
    """An append-only file with one JSON object a line.

    A last line without its end was being written when the run was killed, and is dropped.

    Args:
        file: where; made if it is not there.
        keep: drop everything after this many lines; None keeps all.

    Attributes:
        entries: what the file held when it was opened.

    Raises:
        ValueError: a line that ends but is no JSON.
    """

    def __init__(self, file: Path, keep: int | None = None) -> None:
        lines = _complete_lines(file)[:keep]
        self.entries = [_parsed(file, number, line) for number, line in enumerate(lines, 1)]
        if file.exists():
            os.truncate(file, sum(map(len, lines)))
        self._stream = file.open("a", buffering=1, encoding="utf-8")

    def append(self, entry: dict[str, Any]) -> None:
        """Write one line, at once."""
        self._stream.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        self._stream.close()


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects in a file written by JsonLines, which may still be growing."""
    return [_parsed(file, number, line) for number, line in enumerate(_complete_lines(file), 1)]


def _complete_lines(file: Path) -> list[bytes]:
    if not file.exists():
        return []
    return [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _parsed(file: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} of {file} is damaged ({error}): remove it") from None
