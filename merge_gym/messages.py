"""Wording shared by the library's errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any


def unknown_name(kind: str, given: object, known: Iterable[str]) -> str:
    """Say that `given` names no `kind`, with the nearest names first and then all of them."""
    options = sorted(known)
    nearest = get_close_matches(str(given), options, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
    return f"unknown {kind} {given!r}.{hint} Known: {', '.join(options) or 'none'}."


def taken_name(kind: str, name: str, by: Callable[..., Any]) -> str:
    """Say that a `kind` of this name is there already, and where."""
    return (
        f"the {kind} {name!r} is already defined in {by.__module__}; give the new one another name"
    )
