"""Everything that is wrong at once, so that nobody has to mend and start again to hear the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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
