"""Files that survive a process being killed: whole ones, and JSON lines appended to."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

logger = logging.getLogger(__name__)


class Closing(ABC):
    """What is closed at the end of its `with`."""

    @abstractmethod
    def close(self) -> None:
        """Close its files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a temporary path beside `file` to write to, and rename it to `file` if all went well:
    nobody ever sees half of one."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.fchmod(handle, 0o666 & ~_umask())
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write all of it or nothing."""
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(file: Path) -> Any:
    """The values in a JSON file; ValueError where it is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from None


def write_json(file: Path, data: Any) -> None:
    """Write values as JSON, all of them or nothing."""
    write_text(file, json.dumps(data, indent=2) + "\n")


class JsonLines:
    """An append-only file with one JSON object a line.

    A last line without its end was being written when the process was killed, and is dropped; so
    is, with a warning, a line that is no JSON object: whoever keeps such a file can make its lines
    again.

    Args:
        file: where; made if it is not there.
        fresh: begin with an empty file.

    Attributes:
        entries: what the file held when it was opened.
    """

    def __init__(self, file: Path, fresh: bool = False) -> None:
        self.entries = [] if fresh else read_lines(file)
        if file.exists():
            os.truncate(file, 0 if fresh else sum(map(len, _complete_lines(file))))
        self._stream = file.open("a", buffering=1, encoding="utf-8")

    def append(self, entry: dict[str, Any]) -> None:
        """Write one line, at once."""
        self._stream.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        self._stream.close()


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects in a file written by JsonLines, which may still be growing."""
    entries = []
    for number, line in enumerate(_complete_lines(file), 1):
        entry = _object(line)
        if entry is None:
            logger.warning("line %d of %s is damaged and left out", number, file)
        else:
            entries.append(entry)
    return entries


class FolderLock:
    """Holds a folder for this process; a second one is refused as long as the first lives.

    Args:
        directory: made if it is not there.

    Raises ValueError where another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / ".lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ValueError(
                f"{directory} is in use by another process: wait for it, or name another folder"
            ) from None

    def release(self) -> None:
        """Let others have the folder."""
        self._file.close()


def _complete_lines(file: Path) -> list[bytes]:
    if not file.exists():
        return []
    return [line + b"\n" for line in file.read_bytes().split(b"\n")[:-1]]


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None if it holds none."""
    try:
        entry = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
