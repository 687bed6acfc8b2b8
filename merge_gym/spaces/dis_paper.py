"""Depth-wise integration as published: which experts' layers stand in each slot, and how loud."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from typing import Annotated, Any

from merge_gym.recipe import Layer, Recipe, Source
from merge_gym.settings import Range, Setting
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.space import Decisions, Space, choice, number, space

MOST_EXPERTS = 6
"""With more, the words for their orders are thousands in each slot."""

SCALES = (0.01, 2.0)
"""Published from 0, with which a model forgets its input; that cannot be folded into weights."""

PRETRAINED = Source.operator("task_arithmetic", weight=0.0)


@space("dis_paper")
@dataclass
class DisPaper(Space):
    """The depth-wise integration space of automated model merging (arXiv:2502.04030), encoded as
    released: for each layer, which is a slot, whether each expert's layer stands there, in which
    order, and a factor of the output of the last of them.

    An empty slot keeps the pretrained layer. What is shared comes from where the candidates say.

    Args:
        candidates: whose experts stand in slots.
        scales: slots have a factor, up to 2.
        deepest: how many times the suite's models' layers a recipe may have (the published 50 of
            40); deeper ones count as 0 without being scored.
    """

    candidates: Candidates = field(metadata={"checked_elsewhere": True})
    scales: bool = True
    deepest: Annotated[float, Range(1)] = 1.25

    def __post_init__(self) -> None:
        candidates = self.candidates
        candidates.family.check(scales=self.scales)
        experts = candidates.experts
        if len(experts) > MOST_EXPERTS:
            raise ValueError(
                f"dis_paper names every order of the experts and takes at most {MOST_EXPERTS}, the "
                f"suite has {len(experts)}: search space=depthwise"
            )
        self._orders = {">".join(order): order for order in permutations(experts)}
        self._slots = [f"{segment}.{index}" for segment, index in candidates.places]
        self.decisions = {setting.name: setting for setting in self._settings()}
        at = {slot: place / len(self._slots) for place, slot in enumerate(self._slots)}
        self.depth = {name: at[name.replace("/", ":").partition(":")[0]] for name in self.decisions}

    def describe(self) -> dict[str, Any]:
        shared = [[part, source.to_dict()] for part, source in self.candidates.shared]
        return super().describe() | {"shared": shared, "deepest": self.deepest}

    def recipe(self, decisions: Decisions) -> Recipe:
        return self.candidates.put_together(
            (segment, layer)
            for slot, (segment, index) in zip(self._slots, self.candidates.places, strict=True)
            for layer in self._layers(slot, index, decisions)
        )

    def valid(self, decisions: Decisions) -> bool:
        depth = sum(max(1, len(self._standing(slot, decisions))) for slot in self._slots)
        return depth <= self.deepest * len(self._slots)

    def active(self, decisions: Decisions) -> list[str]:
        """Without the order of slots in which no two experts stand."""
        single = {slot for slot in self._slots if len(self._standing(slot, decisions)) < 2}
        return [name for name in self.decisions if name.removesuffix(":order") not in single]

    def edits(self) -> dict[str, list[Decisions]]:
        """No expert, one or two for a slot, in either order."""
        experts = self.candidates.experts
        chosen = [(), *permutations(experts, 1), *permutations(experts, 2)]
        return {slot: [self._choosing(slot, order) for order in chosen] for slot in self._slots}

    def blocks(self, decisions: Decisions) -> list[list[str]]:
        """The factors of runs of neighbouring slots."""
        scales = [name for name in self.decisions if name.endswith(":scale")]
        ends = range(len(scales) + 1)
        return [scales[first:end] for first in ends for end in ends if end - first > 1]

    def starts(self) -> dict[str, Decisions]:
        """Every expert, as published."""
        default = {name: setting.default for name, setting in self.decisions.items()}
        starts = {}
        for expert in self.candidates.experts:
            starts[expert] = dict(default)
            for slot in self._slots:
                starts[expert] |= self._choosing(slot, (expert,))
        return starts

    def _settings(self) -> Iterator[Setting]:
        for slot in self._slots:
            for expert in self.candidates.experts:
                yield Setting(f"{slot}/{expert}", False, "flag")
            yield choice(f"{slot}:order", tuple(self._orders))
            if self.scales:
                yield number(f"{slot}:scale", *SCALES, 1.0)

    def _choosing(self, slot: str, order: tuple[str, ...]) -> Decisions:
        """The decisions for the experts of `order`, in that order, in a slot."""
        experts = self.candidates.experts
        others = tuple(expert for expert in experts if expert not in order)
        flags = {f"{slot}/{expert}": expert in order for expert in experts}
        return flags | {f"{slot}:order": ">".join((*order, *others))}

    def _standing(self, slot: str, decisions: Decisions) -> list[str]:
        """The experts that stand in a slot, in order."""
        order = self._orders[decisions[f"{slot}:order"]]
        return [expert for expert in order if decisions[f"{slot}/{expert}"]]

    def _layers(self, slot: str, index: int, decisions: Decisions) -> Iterator[Layer]:
        sources = [Source.expert(name) for name in self._standing(slot, decisions)] or [PRETRAINED]
        for source in sources[:-1]:
            yield Layer.of(index, source)
        yield Layer.of(index, sources[-1], stream=decisions.get(f"{slot}:scale", 1.0))
