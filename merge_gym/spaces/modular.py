"""Component by component, which experts share a merged module: decisions that spell a library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from merge_gym.library import SHARED, Library, Place, components
from merge_gym.recipe import (
    LAYER_COMPONENTS,
    SHARED_COMPONENTS,
    Layer,
    Parts,
    Recipe,
    Source,
    whole,
)
from merge_gym.settings import Range, Setting
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.space import Decisions, Space, choice, space

MOST_EXPERTS = 8
"""With more, the ways to group them are too many to list (Bell's numbers)."""

NONE, SIGN, RANK = "none", "sign", "rank"
RESIDUALS = (NONE, SIGN, RANK)


@space("modular")
@dataclass
class Modular(Space):
    """For each component of each layer, for stem and norm: which experts share one module, by which
    of the bank's operators a group of two or more is merged, and what each task keeps of its own
    expert beside it. After MERGE (arXiv:2602.06552), which groups and chooses methods.

    A grouping is a restricted growth string: the group of each expert by number, each number at
    most one above those before it, so that every grouping has one name. Decisions that do not tell
    leave the library as it is.

    Args:
        candidates: the experts, the operators that merge groups, and the shapes of their tensors.
        residuals: a component's tasks can keep the `sign` of what their experts differ from the
            group's merge by, or its best approximation of `rank`.
        rank: of those approximations.

    Raises ValueError where there are no operators, more than 8 experts, or no shapes.
    """

    candidates: Candidates = field(metadata={"checked_elsewhere": True})
    residuals: bool = True
    rank: Annotated[int, Range(1)] = 8

    def __post_init__(self) -> None:
        given, experts = self.candidates, self.candidates.experts
        if not 2 <= len(experts) <= MOST_EXPERTS or len(given) == len(experts) or not given.shapes:
            raise ValueError(
                f"the modular space groups 2 to {MOST_EXPERTS} experts of models by at least one "
                f"operator, got {len(experts)} and {len(given) - len(experts)}"
            )
        if any("weight" in dict(of.parameters) and _per_expert(of) for of in given.sources):
            raise ValueError(
                "the modular space merges groups of several sizes: give its operators one weight, "
                "none for each expert"
            )
        self.methods = given.names[len(experts) :]
        self.groupings = tuple(growth_strings(len(experts)))
        self.places = {_name(place): place for place in self._in_order()}
        self.decisions = {setting.name: setting for setting in self._settings()}
        depths = {name: number / len(self.places) for number, name in enumerate(self.places)}
        self.depth = {name: depths[name.rpartition(":")[0]] for name in self.decisions}

    def describe(self) -> dict[str, Any]:
        merges = [self.candidates.source(name).to_dict() for name in self.methods]
        return super().describe() | {"sources": merges, "rank": self.rank}

    def recipe(self, decisions: Decisions) -> Library:
        """The library: the recipe of each task's expert's place in the groups. Tasks are those of
        the experts, by the same names."""
        sources = {name: self._sources(name, decisions) for name in self.places}
        return Library.of(
            {
                expert: self._chain({name: of[number] for name, of in sources.items()})
                for number, expert in enumerate(self.candidates.experts)
            }
        )

    def storage(self, decisions: Decisions) -> float:
        """What the library takes, in multiples of one model."""
        return self.recipe(decisions).storage(self.candidates).models

    def active(self, decisions: Decisions) -> list[str]:
        """Without the methods of groups that are not there, and residuals where all are alone."""
        active = []
        for name in self.places:
            merged = len(groups_of_several(decisions[f"{name}:groups"]))
            active += [f"{name}:groups", *(f"{name}:method-{number}" for number in range(merged))]
            active += [f"{name}:residual"] * (self.residuals and merged > 0)
        return active

    def starts(self) -> dict[str, Decisions]:
        """All experts in one group by each method, and every expert by itself."""
        apart = self.everywhere(self.groupings[-1])
        return {method: self.everywhere(self.groupings[0], method) for method in self.methods} | {
            "experts": apart
        }

    def edits(self) -> dict[str, list[Decisions]]:
        """A grouping for each component."""
        return {
            name: [{f"{name}:groups": grouping} for grouping in self.groupings]
            for name in self.places
        }

    def sample(self, generator: np.random.Generator) -> Decisions:
        """With as many groups, on average over components, as a share drawn first says; otherwise
        nearly every library would be about as large."""
        decisions, share = super().sample(generator), generator.random()
        experts = len(self.candidates.experts)
        for name in self.places:
            count = 1 + generator.binomial(experts - 1, share)
            fitting = [of for of in self.groupings if len(set(of)) == count]
            decisions[f"{name}:groups"] = fitting[int(generator.integers(len(fitting)))]
        return decisions

    def everywhere(
        self, grouping: str, method: str | None = None, residual: str = NONE
    ) -> Decisions:
        """One grouping, method and residual for every component."""
        told = {"groups": grouping, "residual": residual}
        return {
            name: told.get(name.rpartition(":")[2], method or self.methods[0])
            for name in self.decisions
        }

    def _in_order(self) -> Iterator[Place]:
        """From a model's input to its output: stem, layers, norm."""
        shapes = self.candidates.shapes
        outside = components(shapes, *SHARED)
        yield from (place for place in outside if place[2] != "norm")
        for segment, index in self.candidates.places:
            yield from components(shapes, segment, index)
        yield from (place for place in outside if place[2] == "norm")

    def _settings(self) -> Iterator[Setting]:
        for name in self.places:
            yield choice(f"{name}:groups", self.groupings)
            for number in range(len(self.candidates.experts) // 2):
                yield choice(f"{name}:method-{number}", self.methods)
            if self.residuals:
                yield choice(f"{name}:residual", RESIDUALS)

    def _sources(self, name: str, decisions: Decisions) -> list[Source]:
        """The source of one component for each expert's task."""
        grouping, experts = decisions[f"{name}:groups"], self.candidates.experts
        residual = decisions.get(f"{name}:residual", NONE)
        sources = [Source.expert(expert) for expert in experts]
        for number, members in enumerate(groups_of_several(grouping)):
            method = self.candidates.source(decisions[f"{name}:method-{number}"])
            named = tuple(experts[member] for member in members)
            merged = replace(method, experts=() if len(named) == len(experts) else named)
            for member in members:
                rank = {NONE: None, SIGN: 0, RANK: self.rank}[residual]
                sources[member] = (
                    merged if rank is None else Source.residual(experts[member], merged, rank)
                )
        return sources

    def _chain(self, sources: dict[str, Source]) -> Recipe:
        """The recipe of one task, given its source of each component."""
        of = {self.places[name]: source for name, source in sources.items()}
        layers = (
            (segment, Layer(index, self._parts(of, segment, index)))
            for segment, index in self.candidates.places
        )
        return self.candidates.put_together(layers, self._parts(of, *SHARED))

    def _parts(self, of: dict[Place, Source], segment: str, index: int) -> Parts:
        here = {place[2]: source for place, source in of.items() if place[:2] == (segment, index)}
        first = next(iter(here.values()))
        if set(here.values()) == {first}:
            return whole(first)
        names = SHARED_COMPONENTS if (segment, index) == SHARED else LAYER_COMPONENTS
        return tuple((name, here.get(name, first)) for name in names)


def growth_strings(count: int) -> Iterator[str]:
    """Every way to group `count` things, from one group to each by itself in the last one."""
    if count == 0:
        yield ""
        return
    for before in growth_strings(count - 1):
        for group in range(len(set(before)) + 1):
            yield f"{before}{group}"


def canonical(labels: list[int]) -> str:
    """The restricted growth string of a grouping that is given by any labels."""
    numbers: dict[int, int] = {}
    return "".join(str(numbers.setdefault(label, len(numbers))) for label in labels)


def members_of(grouping: str) -> list[tuple[int, ...]]:
    """The members of each group, by their places."""
    return [
        tuple(place for place, letter in enumerate(grouping) if letter == group)
        for group in dict.fromkeys(grouping)
    ]


def groups_of_several(grouping: str) -> list[tuple[int, ...]]:
    """The members of each group of two or more."""
    return [members for members in members_of(grouping) if len(members) > 1]


def _name(place: Place) -> str:
    segment, index, component = place
    return f"shared/{component}" if (segment, index) == SHARED else f"{segment}.{index}/{component}"


def _per_expert(source: Source) -> bool:
    return isinstance(dict(source.parameters)["weight"], tuple)
