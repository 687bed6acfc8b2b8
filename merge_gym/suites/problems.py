"""Everything that is wrong at once, so that nobody has to mend and start again to hear the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from merge_gym.messages import unknown_name

SHOWN = 200
"""Characters of a given value that a message shows."""


class Problems:
    """Collects errors, and raises them as one."""

    def __init__(self) -> None:
        self._subjects: dict[tuple[type[OSError | ValueError], str], list[str]] = {}

    @contextmanager
    def about(self, subject: str) -> Iterator[None]:
        """Keep an OSError or ValueError that is raised inside, and go on after the block."""
        try:
            yield
        except (OSError, ValueError) as error:
            kinds = (FileNotFoundError, OSError, ValueError)
            kind = next(kind for kind in kinds if isinstance(error, kind))
            self._subjects.setdefault((kind, str(error)), []).append(subject)

    def check(self) -> None:
        """Raise what was collected: the one error, or a ValueError that lists them."""
        errors = [
            kind(f"{' and '.join(subjects)}: {message}")
            for (kind, message), subjects in self._subjects.items()
        ]
        if len(errors) == 1:
            raise errors[0]
        if errors:
            listed = "\n".join(f"- {error}" for error in errors)
            raise ValueError(f"{len(errors)} things do not fit:\n{listed}")


def shown(value: object) -> str:
    """A value as a message shows it."""
    return shortened(repr(value))


def shortened(text: str) -> str:
    """A text cut to what a message shows of it."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def unknown(kind: str, given: object, known: Iterable[str]) -> str:
    """That `given` names no `kind`, with the nearest names."""
    return unknown_name(kind, shortened(str(given)), known)
