"""The parameter space of evolutionary model merging: DARE-TIES with settings for every layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from merge_gym.recipe import Layer, Recipe, Source, whole
from merge_gym.settings import Range, Setting
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.space import Decisions, Space, number, space

STEM, NORM = "stem", "norm"


@space("parameter")
@dataclass
class Parameter(Space):
    """For each layer, for the stem and for the final norm, how many entries of each expert's task
    vector are kept, and its λ; merged by DARE-TIES. The parameter space of evolutionary model
    merging (arXiv:2403.13187, section 3.1).

    Agreeing values are summed and not averaged, as in mergekit, which the paper merges with: with
    all entries kept, only those whose signs disagree differ from task arithmetic.

    Args:
        candidates: whose experts are merged.
        largest: the greatest λ.
    """

    candidates: Candidates = field(metadata={"checked_elsewhere": True})
    largest: Annotated[float, Range(0)] = 1.5

    def __post_init__(self) -> None:
        layers = self.candidates.places
        self._places = {f"{segment}.{index}": (segment, index) for segment, index in layers}
        ends = (STEM, NORM) if self.candidates.family.norm else (STEM,)
        at = {slot: place / len(layers) for place, slot in enumerate(self._places)}
        self._positions = dict.fromkeys(ends, 0.0) | at | dict.fromkeys(ends[1:], 1.0)
        self.decisions = {setting.name: setting for setting in self._settings()}
        self.depth = {name: self._positions[name.partition("/")[0]] for name in self.decisions}

    def recipe(self, decisions: Decisions) -> Recipe:
        source = {position: self._source(position, decisions) for position in self._positions}
        layers = (
            (segment, Layer.of(index, source[place]))
            for place, (segment, index) in self._places.items()
        )
        both = tuple((end, source[end]) for end in (STEM, NORM) if end in source)
        return self.candidates.put_together(layers, both if NORM in source else whole(source[STEM]))

    def edits(self) -> dict[str, list[Decisions]]:
        """One expert as it is, or the average of all, for a position."""
        experts = self.candidates.experts
        even = (1 / len(experts),) * len(experts)
        one_each = [tuple(float(name == expert) for name in experts) for expert in experts]
        return {
            position: [self._merging(position, weights) for weights in (*one_each, even)]
            for position in self._positions
        }

    def blocks(self, decisions: Decisions) -> list[list[str]]:
        """One expert's λ, or densities, in runs of neighbouring layers."""
        places = list(self._places)
        ends = range(len(places) + 1)
        runs = [places[first:end] for first in ends for end in ends if end - first > 1]
        return [
            [f"{place}/{what}:{expert}" for place in run]
            for run in runs
            for what in ("weight", "density")
            for expert in self.candidates.experts
        ]

    def starts(self) -> dict[str, Decisions]:
        """Every candidate that is a sum of task vectors, such as the experts and the average."""
        candidates = self.candidates
        weights = {
            name: candidates.weights(source)
            for name, source in zip(candidates.names, candidates.sources, strict=True)
        }
        return {
            name: self._everywhere(given)
            for name, given in weights.items()
            if given is not None and all(0 <= value <= self.largest for value in given)
        }

    def _settings(self) -> Iterator[Setting]:
        experts = self.candidates.experts
        even = min(1 / len(experts), self.largest)
        for position in self._positions:
            for expert in experts:
                yield number(f"{position}/weight:{expert}", 0.0, self.largest, even)
                yield number(f"{position}/density:{expert}", 0.0, 1.0, 1.0)

    def _merging(self, position: str, weights: tuple[float, ...]) -> Decisions:
        """The decisions for task arithmetic, nothing dropped, at a position."""
        given: Decisions = {}
        for expert, weight in zip(self.candidates.experts, weights, strict=True):
            given |= {f"{position}/weight:{expert}": weight, f"{position}/density:{expert}": 1.0}
        return given

    def _everywhere(self, weights: tuple[float, ...]) -> Decisions:
        return {
            name: value
            for position in self._positions
            for name, value in self._merging(position, weights).items()
        }

    def _source(self, position: str, decisions: Decisions) -> Source:
        def given(what: str) -> list[Any]:
            return [decisions[f"{position}/{what}:{expert}"] for expert in self.candidates.experts]

        return Source.operator(
            "dare_ties", density=given("density"), weight=given("weight"), consensus="sum"
        )
