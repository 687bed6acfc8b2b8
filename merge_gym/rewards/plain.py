"""The episode's own reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merge_gym.evaluation.scorer import mean_over_tasks
from merge_gym.rewards.reward import reward


@reward("plain")
@dataclass
class Plain:
    """The mean over tasks of the metric, × 100."""

    def __call__(self, scores: Mapping[str, float], position: int | None) -> float:
        return 100 * mean_over_tasks(scores)

    def clear(self) -> None:
        """There is nothing to forget."""

    def state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """There is nothing to put back."""
