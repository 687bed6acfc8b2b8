"""Layer-wise fusion as published: for each of a few groups of layers an operator and settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Annotated, Any

from merge_gym.recipe import LAYER_COMPONENTS, WHOLE, Layer, Parts, Recipe, Source, whole
from merge_gym.settings import Range, Setting
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.space import Decisions, Space, choice, number, space

OPERATORS = ("linear", "task_arithmetic", "ties", "slerp")
LARGEST_MASK = 0.99


@space("lfs_paper")
@dataclass
class LfsPaper(Space):
    """The layer-wise fusion space of automated model merging (arXiv:2502.04030), encoded as
    released: each group of layers has one operator, and each component of it that operator's
    settings: of `linear` a weight for each expert, which are divided by their sum; of
    `task_arithmetic` one λ; of `ties` the share that is masked and one λ; of `slerp` a score for
    each expert: the two with the greatest sums over components are merged, with t from a softmax of
    their scores.

    The stem is merged as the rest of the first group, the final norm as that of the last.

    Args:
        candidates: whose experts are merged.
        groups: how many runs of layers each segment has, as long as one another but for one layer;
            the published four of ten layers each. No more than there are layers.
        components: attention, mlp and the rest of a layer have settings of their own.
    """

    candidates: Candidates = field(metadata={"checked_elsewhere": True})
    groups: Annotated[int, Range(1)] = 4
    components: bool = True

    def __post_init__(self) -> None:
        self.candidates.family.check(components=self.components)
        if len(self.candidates.experts) < 2:
            raise ValueError("lfs_paper merges at least two experts, the suite has one")
        self._parts = LAYER_COMPONENTS if self.components else (WHOLE,)
        self._group_of = {
            (segment, index): f"{segment}.{index * min(self.groups, size) // size}"
            for segment, size in self.candidates.segments.items()
            for index in range(size)
        }
        self._groups = list(dict.fromkeys(self._group_of.values()))
        self.decisions = {setting.name: setting for setting in self._settings()}
        self.depth = self._depth()

    def recipe(self, decisions: Decisions) -> Recipe:
        merged = {group: self._merged(group, decisions) for group in self._groups}
        layers = (
            (segment, Layer(index, merged[group]))
            for (segment, index), group in self._group_of.items()
        )
        stem, norm = (merged[self._groups[at]][-1][1] for at in (0, -1))
        ends = (("stem", stem), ("norm", norm))
        shared = ends if self.candidates.family.norm else whole(stem)
        return self.candidates.put_together(layers, shared)

    def active(self, decisions: Decisions) -> list[str]:
        """The settings of each group's operator only."""
        taken = {f"{group}/{decisions[group]}" for group in self._groups}
        return [name for name in self.decisions if name in self._groups or _operator(name) in taken]

    def edits(self) -> dict[str, list[Decisions]]:
        """Another operator for a group of layers, with the settings that stand there."""
        return {group: [{group: operator} for operator in OPERATORS] for group in self._groups}

    def blocks(self, decisions: Decisions) -> list[list[str]]:
        """One setting in all components of a group."""
        numbers = self.numbers(decisions)
        settings = dict.fromkeys(name.rpartition(":")[0] for name in numbers)
        blocks = [[name for name in numbers if name.rpartition(":")[0] == of] for of in settings]
        return [block for block in blocks if len(block) > 1]

    def starts(self) -> dict[str, Decisions]:
        """Every expert, by `linear`, and the other settings, as published."""
        default = {name: setting.default for name, setting in self.decisions.items()}
        return {
            expert: default | {name: 1.0 for name in default if f"/linear/{expert}:" in name}
            for expert in self.candidates.experts
        }

    def _settings(self) -> Iterator[Setting]:
        experts = self.candidates.experts
        numbers = {
            **{f"linear/{expert}": (1.0, 0.0) for expert in experts},
            "task_arithmetic/λ": (1.0, 0.0),
            "ties/mask": (LARGEST_MASK, 0.1),
            "ties/λ": (1.0, 0.0),
            **{f"slerp/{expert}": (1.0, 0.0) for expert in experts},
        }
        for group in self._groups:
            yield choice(group, OPERATORS)
            for name, (high, default) in numbers.items():
                for part in self._parts:
                    yield number(f"{group}/{name}:{part}", 0.0, high, default)

    def _depth(self) -> dict[str, float]:
        first: dict[str, float] = {}
        for place, group in enumerate(self._group_of.values()):
            first.setdefault(group, place / len(self._group_of))
        return {name: first[name.partition("/")[0]] for name in self.decisions}

    def _merged(self, group: str, decisions: Decisions) -> Parts:
        """The sources of a group of layers, one for each component."""
        operator = decisions[group]
        if operator == "slerp":
            return self._slerp(group, decisions)
        return tuple((part, self._source(operator, group, part, decisions)) for part in self._parts)

    def _source(self, operator: str, group: str, part: str, decisions: Decisions) -> Source:
        def given(name: str) -> Any:
            return decisions[f"{group}/{operator}/{name}:{part}"]

        if operator == "linear":
            weights = [given(expert) for expert in self.candidates.experts]
            total = math.fsum(weights)
            shares = [weight / total if total else 1 / len(weights) for weight in weights]
            return Source.operator("average", weight=shares)
        if operator == "ties":
            return Source.operator(
                "ties", density=1 - given("mask"), weight=given("λ"), scope="tensor"
            )
        return Source.operator("task_arithmetic", weight=given("λ"))

    def _slerp(self, group: str, decisions: Decisions) -> Parts:
        experts = self.candidates.experts
        scores = {
            expert: [decisions[f"{group}/slerp/{expert}:{part}"] for part in self._parts]
            for expert in experts
        }
        top = sorted(experts, key=lambda expert: -fmean(scores[expert]))[:2]
        first, second = (expert for expert in experts if expert in top)
        pair = (first, second) if len(experts) > 2 else ()
        return tuple(
            (part, Source.operator("slerp", pair, t=1 / (1 + math.exp(one - two))))
            for part, one, two in zip(self._parts, scores[first], scores[second], strict=True)
        )


def _operator(name: str) -> str:
    """Of a setting's name, the group and the operator."""
    return "/".join(name.split("/")[:2])
