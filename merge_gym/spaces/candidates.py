"""What can stand at each layer of a suite's models, by name and value, apart from any tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from merge_gym.messages import unknown_name
from merge_gym.recipe import Layer, Recipe, Source


class Candidates:
    """The sources that an environment's actions choose from, and the recipes they spell.

    Attributes:
        suite_name, digest: the suite that recipes are made for.
        segments: {segment name: number of layers}.
        sources: the N+M sources by value, in action order.
        candidates: their names.
        shared: source of the parameters outside the layers.
    """

    shared: Source

    def __init__(
        self,
        suite_name: str,
        digest: str,
        segments: Mapping[str, int],
        sources: Sequence[Source],
        candidates: Sequence[str],
    ) -> None:
        self.suite_name, self.digest = suite_name, digest
        self.segments = dict(segments)
        self.sources, self.candidates = tuple(sources), tuple(candidates)

    def source(self, spec: str | Mapping[str, Any] | Source) -> Source:
        """A candidate by its name or value; ValueError if there is none."""
        if isinstance(spec, str) and spec in self.candidates:
            return self.sources[self.candidates.index(spec)]
        if isinstance(spec, Source) and spec in self.sources:
            return spec
        raise ValueError(unknown_name("candidate", spec, self.candidates))

    def recipe(self, taken: Sequence[tuple[int, int]]) -> Recipe:
        """The recipe of (layer, candidate) pairs; layers are numbered through all segments."""
        layers: dict[str, list[Layer]] = {segment: [] for segment in self.segments}
        for layer, candidate in taken:
            segment, choices = self._choices[layer]
            layers[segment].append(choices[candidate])
        segments = tuple((segment, tuple(chosen)) for segment, chosen in layers.items())
        return Recipe(self.digest, self.shared, segments)

    def check(self, recipe: Recipe) -> None:
        """ValueError unless `recipe` was made for this suite and its layers are in range."""
        if recipe.suite != self.digest:
            raise ValueError(
                f"the recipe was made for the suite with digest {recipe.suite}, this is "
                f"{self.suite_name} with digest {self.digest}: load the recipe's own suite"
            )
        if [name for name, _ in recipe.segments] != list(self.segments):
            raise ValueError(f"a recipe here has the segments {', '.join(self.segments)}")
        for segment, layers in recipe.segments:
            size = self.segments[segment]
            if outside := [layer.index for layer in layers if not 0 <= layer.index < size]:
                raise ValueError(
                    f"the recipe takes layers {outside} of {segment!r}, which has {size}: "
                    f"0 to {size - 1}"
                )

    def label(self, source: Source) -> str:
        """The candidate's name where `source` is one, else the source written out."""
        if source in self.sources:
            return self.candidates[self.sources.index(source)]
        return str(source)

    @cached_property
    def _choices(self) -> list[tuple[str, tuple[Layer, ...]]]:
        """For each layer through all segments, its segment and what can be taken there."""
        return [
            (segment, tuple(Layer(index, source) for source in self.sources))
            for segment, size in self.segments.items()
            for index in range(size)
        ]
