"""The data-flow space of evolutionary model merging: a path through the layers of all experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from merge_gym.recipe import Layer, Recipe, Source
from merge_gym.settings import Range, Setting
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.layerwise import SCALES
from merge_gym.spaces.space import Decisions, Space, choice, number, space

INSIDE, OUTSIDE = 0.25, -0.25
"""An indicator that takes a layer, and one that does not; edits and starts use these two."""


@dataclass(frozen=True)
class Hop:
    """A layer that a path may take.

    Attributes:
        name: of its decisions.
        segment, index: which layer.
        expert: whose; None for the first and the last, of which it is decided.
        repetition: in which, from 0.
    """

    name: str
    segment: str
    index: int
    expert: str | None = None
    repetition: int = 0


@space("dataflow")
@dataclass
class Dataflow(Space):
    """Which layers tokens pass through, and how loud they come to each. The data-flow space of
    evolutionary model merging (arXiv:2403.13187, section 3.2): all layers of one expert after
    another, all of that a few times over, and an indicator for each of them, which takes the layer
    where it is above 0.

    The first and the last layer are kept: of which expert is decided. What is shared comes from
    where the candidates say.

    Args:
        candidates: whose experts' layers are passed through.
        repetitions: how many times over.
        scales: the input of every layer but the first has a factor from 0.4 to 1.5.
    """

    candidates: Candidates = field(metadata={"checked_elsewhere": True})
    repetitions: Annotated[int, Range(1)] = 3
    scales: bool = True

    def __post_init__(self) -> None:
        self.candidates.family.check(scales=self.scales)
        for segment, size in self.candidates.segments.items():
            if size < 2:
                raise ValueError(
                    f"dataflow keeps the first and the last layer of {segment!r}, which has {size}"
                )
        self._hops = list(self._all_hops())
        self.decisions = {setting.name: setting for setting in self._settings()}
        before = {hop.name: max(0, place - 1) for place, hop in enumerate(self._hops)}
        self.depth = {
            name: before[name.removesuffix(":scale")] / len(self._hops) for name in self.decisions
        }

    def describe(self) -> dict[str, Any]:
        shared = [[part, source.to_dict()] for part, source in self.candidates.shared]
        return super().describe() | {"shared": shared}

    def recipe(self, decisions: Decisions) -> Recipe:
        layers: list[tuple[str, Layer]] = []
        for hop in self._taken(decisions):
            if f"{hop.name}:scale" in decisions:  # what comes in is what the layer before puts out
                segment, before = layers[-1]
                layers[-1] = segment, replace(before, stream=decisions[f"{hop.name}:scale"])
            source = Source.expert(hop.expert or decisions[hop.name])
            layers.append((hop.segment, Layer.of(hop.index, source)))
        return self.candidates.put_together(layers)

    def active(self, decisions: Decisions) -> list[str]:
        """Without the scales of layers that are not taken."""
        left = {hop.name for hop in self._hops} - {hop.name for hop in self._taken(decisions)}
        return [
            name
            for name in self.decisions
            if not name.endswith(":scale") or name.removesuffix(":scale") not in left
        ]

    def edits(self) -> dict[str, list[Decisions]]:
        """To take a layer or not; whose is the first and the last."""
        return {
            hop.name: [
                {hop.name: value}
                for value in ((INSIDE, OUTSIDE) if hop.expert else self.candidates.experts)
            ]
            for hop in self._hops
        }

    def starts(self) -> dict[str, Decisions]:
        """Every expert: its layers, taken once."""
        default = {name: setting.default for name, setting in self.decisions.items()}
        starts = {}
        for expert in self.candidates.experts:
            once = [hop for hop in self._hops if hop.expert == expert and hop.repetition == 0]
            ends = {hop.name: expert for hop in self._hops if hop.expert is None}
            starts[expert] = default | ends | {hop.name: INSIDE for hop in once}
        return starts

    def _all_hops(self) -> Iterator[Hop]:
        for segment, size in self.candidates.segments.items():
            yield Hop(f"{segment}.first", segment, 0)
            for repetition in range(self.repetitions):
                for expert in self.candidates.experts:
                    for index in range(1, size - 1):
                        name = f"{segment}.{index}/{expert}/{repetition + 1}"
                        yield Hop(name, segment, index, expert, repetition)
            yield Hop(f"{segment}.last", segment, size - 1)

    def _settings(self) -> Iterator[Setting]:
        for hop in self._hops:
            if hop.expert is None:
                yield choice(hop.name, self.candidates.experts)
            else:
                yield number(hop.name, -1.0, 1.0, OUTSIDE)
            if self.scales and not hop.name.endswith(".first"):
                yield number(f"{hop.name}:scale", *SCALES, 1.0)

    def _taken(self, decisions: Decisions) -> list[Hop]:
        """The layers that a path takes, in order."""
        return [hop for hop in self._hops if hop.expert is None or decisions[hop.name] > 0]
