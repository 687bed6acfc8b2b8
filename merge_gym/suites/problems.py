"""Everything that is wrong at once, so that nobody has to mend and start again to hear the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Problems:
    """Collects errors, and raises them as one."""

    def __init__(self) -> None:
        self.errors: list[OSError | ValueError] = []

    @contextmanager
    def about(self, what: str) -> Iterator[None]:
        """Keep what is raised inside, which `what` is the matter of, and go on after the block."""
        try:
            yield
        except OSError as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
            self.errors.append(kind(f"{what}: {error}"))
        except ValueError as error:
            self.errors.append(ValueError(f"{what}: {error}"))

    def check(self) -> None:
        """Raise what was collected: the one error, or a ValueError that lists them."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            listed = "\n".join(f"- {error}" for error in self.errors)
            raise ValueError(f"{len(self.errors)} things do not fit:\n{listed}")
