"""Decisions as optimisers take them: words with numbers, and numbers between 0 and 1."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from merge_gym.settings import Setting


def words(setting: Setting) -> list[Any]:
    """What a decision may be where it is one of a few; none for a number."""
    if setting.kind == "choice":
        return list(setting.choices)
    if setting.kind == "flag":
        return [False, True]
    if setting.kind == "integer":
        return list(range(int(setting.range.low), int(setting.range.high) + 1))
    return []


def scaled(setting: Setting, value: float) -> float:
    """Where in its range a number lies, from 0 to 1."""
    low, high = setting.range.low, setting.range.high
    return (value - low) / (high - low) if high > low else 0.0


def unscaled(setting: Setting, place: float) -> float:
    """The number at a place in its range; beyond 0 and 1 the nearer of them."""
    low, high = setting.range.low, setting.range.high
    return float(low + min(max(place, 0.0), 1.0) * (high - low))


def library(agent: str, name: str) -> ModuleType:
    """An optimiser library that an agent stands on; ValueError where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise ValueError(
            f"agent {agent!r} needs the package {name!r}: pip install 'merge-gym[search]'"
        ) from None
