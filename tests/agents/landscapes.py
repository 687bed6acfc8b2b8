"""Scores that a test chooses, and a space of four layers to search for them: no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from merge_gym import Outcome, Recipe, Request, Scorer, Source
from merge_gym.recipe import whole
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.walk import Walk

EXPERTS = ("a", "b", "c")


def walk(layers: int = 4) -> Walk:
    """A walk through layers that one of three experts fills."""
    sources = [Source.expert(name) for name in EXPERTS]
    segments = {"layers": layers}
    return Walk(Candidates("hills", "0", segments, sources, EXPERTS, whole(sources[0])))


def taken(recipe: Recipe) -> list[str]:
    """From which expert each layer comes that was not skipped."""
    [(_, layers)] = recipe.segments
    return [layer.source.name for layer in layers]


class Landscape(Scorer):
    """A score for each recipe and subset, of one task.

    Args:
        score: (recipe, subset) → a metric in [0, 1].
        subsets: S, each of as many examples.
        examples: of a subset.
    """

    tasks = ("only",)

    def __init__(
        self, score: Callable[[Recipe, int], float], subsets: int = 10, examples: int = 7
    ) -> None:
        self.of, self.subset_count, self.examples = score, subsets, examples

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        return [self._outcome(request) for request in requests]

    def cost(self, request: Request) -> int:
        return len(self._subsets(request)) * self.examples

    def _subsets(self, request: Request) -> Sequence[int]:
        return range(self.subset_count) if request.subsets is None else request.subsets

    def _outcome(self, request: Request) -> Outcome:
        scores = [self.of(request.recipe, subset) for subset in self._subsets(request)]
        return Outcome({"only": np.repeat(np.float32(scores), self.examples)}, self.cost(request))
