"""What a reward is, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from merge_gym.messages import taken_name, unknown_name


class Reward(Protocol):
    """Turns the scores of a finished episode into what its agent is told.

    A reward may remember earlier episodes; environments that are stepped together share one.
    """

    def __call__(self, scores: Mapping[str, float], position: int | None) -> float:
        """The reward of a scored episode.

        Args:
            scores: {task: metric in [0, 1]} on the episode's subset.
            position: how many episodes were scored before in this pass over the subsets; None where
                the episode stands outside a pass (its subset was asked for), and then nothing is to
                be remembered of it.
        """

    def clear(self) -> None:
        """Forget every episode."""

    def state(self) -> dict[str, Any]:
        """What it remembers, as plain values."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""


_REWARDS: dict[str, type] = {}

RewardClass = TypeVar("RewardClass", bound=type)


def reward(name: str) -> Callable[[RewardClass], RewardClass]:
    """Register a class of rewards under `name`."""

    def register(cls: RewardClass) -> RewardClass:
        if name in _REWARDS:
            raise ValueError(taken_name("reward", name, _REWARDS[name]))
        _REWARDS[name] = cls
        return cls

    return register


def available() -> tuple[str, ...]:
    """The names of all rewards, sorted."""
    return tuple(sorted(_REWARDS))


def make(name: str = "", **settings: Any) -> Reward:
    """The reward called `name`; ValueError for no or an unknown name, setting or value."""
    if name not in _REWARDS:
        raise ValueError(unknown_name("reward", name, available()))
    try:
        made: Reward = _REWARDS[name](**settings)
    except TypeError as error:
        raise ValueError(f"reward {name!r}: {error}") from None
    return made
