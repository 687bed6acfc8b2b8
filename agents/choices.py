"""The decisions of a walk as numbers, for agents that compute with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from merge_gym.spaces.space import Decisions, Space
from merge_gym.spaces.walk import Walk
from merge_gym.studies.study import Study

Choices = NDArray[np.int64]
"""Which of K choices stands at each of L layers; shape (..., L)."""


class Words:
    """Which of its words stands at each layer.

    Attributes:
        layers, choices: L, and K at each layer.
    """

    def __init__(self, space: Space) -> None:
        self._places = tuple(space.decisions)
        self._words = next(iter(space.decisions.values())).choices
        self.layers, self.choices = len(self._places), len(self._words)

    def read(self, decisions: Decisions) -> Choices:
        """Decisions as numbers, shape (L,)."""
        return np.array([self._words.index(decisions[place]) for place in self._places])

    def spell(self, choices: Choices) -> Decisions:
        """Numbers as decisions."""
        spelt = zip(self._places, choices.tolist(), strict=True)
        return {place: self._words[choice] for place, choice in spelt}


def check_walk(name: str, study: Study) -> None:
    """ValueError where the study's space is not one of a choice at each layer."""
    if not isinstance(study.space, Walk):
        raise ValueError(
            f"{name} chooses a source for each layer: it searches space=walk, not "
            f"{type(study.space).__name__}"
        )
