"""Layer by layer, how much of each expert: continuous decisions around the candidates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from merge_gym.recipe import LAYER_COMPONENTS, WHOLE, Layer, Parts, Recipe, Source
from merge_gym.settings import Range, Setting
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.space import Decisions, Space, choice, number, space

MIX = "mix"
"""Instead of a candidate: task arithmetic with a λ for each expert."""

SCALES = (0.4, 1.5)


@dataclass(frozen=True)
class Position:
    """Something that is decided at one go.

    Attributes:
        name: what its decisions are called by.
        segment, indices: which layers; none for what is shared.
        component: which of a layer's components, or of what is shared; `*` for all.
        depth: how late in the model it begins, from 0 to 1.
    """

    name: str
    segment: str
    indices: tuple[int, ...]
    component: str
    depth: float


@space("layerwise")
@dataclass
class Layerwise(Space):
    """For each group of layers, and each component of them, a candidate of the bank or a mix: task
    arithmetic with a λ of its own for each expert. After the layer-wise fusion space of automated
    model merging (arXiv:2502.04030), whose one λ and published operators won less here.

    Args:
        candidates: what can be taken whole; the experts that are mixed.
        groups: how many runs of equally many layers of each segment are decided together; None for
            every layer by itself.
        components: attention, mlp and the rest of a layer apart.
        shared: what lies outside the layers (stem, final norm) is decided too; otherwise it comes
            from where the candidates say.
        take: candidates can be taken; otherwise everything is a mix.
        skip: a group of layers can be left out.
        scales: the branches of each group have a scale from 0.4 to 1.5.
        largest: the greatest λ.
    """

    candidates: Candidates = field(metadata={"checked_elsewhere": True})
    groups: Annotated[int, Range(1)] | None = None
    components: bool = True
    shared: bool = True
    take: bool = True
    skip: bool = True
    scales: bool = False
    largest: Annotated[float, Range(0)] = 1.5

    def __post_init__(self) -> None:
        self._check_family()
        if taken := {"take", "skip", "scale"} & set(self.candidates.experts):
            raise ValueError(
                f"the layerwise space has decisions called take, skip and scale beside one for "
                f"each expert, so no expert can be called {', '.join(sorted(taken))}: rename it"
            )
        self._positions = [*self._of_shared(), *self._of_layers()]
        self._runs = {at.name.rpartition("/")[0]: at.depth for at in self._positions if at.indices}
        self.decisions = {setting.name: setting for setting in self._settings()}
        of = self._runs | {at.name: at.depth for at in self._positions}
        self.depth = {name: of[name.rpartition(":")[0]] for name in self.decisions}

    def describe(self) -> dict[str, Any]:
        names = self.candidates.names if self.take else self.candidates.experts
        taken = [self.candidates.source(name).to_dict() for name in names]
        return super().describe() | {"sources": taken}

    def recipe(self, decisions: Decisions) -> Recipe:
        sources = {at.name: self._source(at.name, decisions) for at in self._positions}
        built = (
            (segment, self._layer(segment, index, sources, decisions))
            for segment, index in self.candidates.places
        )
        layers = ((segment, layer) for segment, layer in built if layer is not None)
        return self.candidates.put_together(layers, self._shared_parts(sources))

    def active(self, decisions: Decisions) -> list[str]:
        """Without the λ of positions that take a candidate, and without skipped layers."""
        runs = [run for run in self._runs if decisions.get(f"{run}:skip", False)]
        skipped = [f"{run}{of}" for run in runs for of in ("/", ":scale")]
        mixed = {at.name for at in self._positions if decisions.get(f"{at.name}:take", MIX) == MIX}
        return [
            name
            for name in self.decisions
            if not name.startswith(tuple(skipped))
            and ("/" not in name or name.endswith(":take") or name.rpartition(":")[0] in mixed)
        ]

    def edits(self) -> dict[str, list[Decisions]]:
        """A source for every component of a group of layers, or none for the group; a source for
        what is shared."""
        words = (MIX, *self.candidates.names) if self.take else ()
        places: dict[str, list[Decisions]] = {}
        for run in self._runs:
            takes = [f"{at.name}:take" for at in self._positions if at.name.startswith(f"{run}/")]
            taken: list[Decisions] = [dict.fromkeys(takes, word) for word in words]
            if self.skip:
                kept = [{f"{run}:skip": False} | edit for edit in taken or [{}]]
                taken = [*kept, {f"{run}:skip": True}]
            places[run] = taken
        for at in self._positions:
            if not at.indices:
                places[at.name] = [{f"{at.name}:take": word} for word in words]
        return {place: edits for place, edits in places.items() if edits}

    def blocks(self, decisions: Decisions) -> list[list[str]]:
        """For runs of neighbouring groups of layers: one expert's λ throughout, and in one
        component."""
        active, blocks = set(self.active(decisions)), []
        runs = list(self._runs)
        kinds = LAYER_COMPONENTS if self.components else ("all",)
        for first in range(len(runs)):
            for last in range(first, len(runs)):
                here = runs[first : last + 1]
                for expert in self.candidates.experts:
                    blocks.append([f"{run}/{kind}:{expert}" for run in here for kind in kinds])
                    if last > first and len(kinds) > 1:
                        blocks += [[f"{run}/{kind}:{expert}" for run in here] for kind in kinds]
        known = [[name for name in block if name in active] for block in blocks]
        return [block for block in known if len(block) > 1]

    def starts(self) -> dict[str, Decisions]:
        """Every candidate for the whole model, as far as it can be said here."""
        starts = {}
        for name, source in zip(self.candidates.names, self.candidates.sources, strict=True):
            weights = self._weights(source)
            if self.take or weights is not None:
                take = None if weights is not None else name
                starts[name] = self._everywhere(take, weights or self._idle)
        return starts or {MIX: self._everywhere(None, self._idle)}

    def _check_family(self) -> None:
        self.candidates.family.check(self.components, self.scales)
        for segment, size in self.candidates.segments.items():
            if self.groups is not None and (self.groups > size or size % self.groups):
                divisors = [str(count) for count in range(1, size + 1) if size % count == 0]
                raise ValueError(
                    f"{self.groups} groups do not divide the {size} layers of {segment!r}: choose "
                    f"{', '.join(divisors)}, or none for one a layer"
                )

    def _of_layers(self) -> Iterator[Position]:
        total, before = self.candidates.depth, 0
        parts = LAYER_COMPONENTS if self.components else (WHOLE,)
        for segment, size in self.candidates.segments.items():
            length = 1 if self.groups is None else size // self.groups
            for start in range(0, size, length):
                indices = tuple(range(start, start + length))
                run = str(start) if length == 1 else f"{start}-{start + length - 1}"
                for part in parts:
                    name = f"{segment}.{run}/{'all' if part == WHOLE else part}"
                    yield Position(name, segment, indices, part, (before + start) / total)
            before += size

    def _of_shared(self) -> Iterator[Position]:
        if not self.shared:
            return
        if not self.candidates.family.norm:
            yield Position("shared/all", "", (), WHOLE, 0.0)
            return
        yield Position("shared/stem", "", (), "stem", 0.0)
        yield Position("shared/norm", "", (), "norm", 1.0)

    def _settings(self) -> Iterator[Setting]:
        for at in self._positions:
            if self.take:
                yield choice(f"{at.name}:take", (MIX, *self.candidates.names))
            for expert in self.candidates.experts:
                yield number(f"{at.name}:{expert}", 0.0, self.largest, self._idle[0])
        for run in self._runs:
            if self.skip:
                yield Setting(f"{run}:skip", False, "flag")
            if self.scales:
                yield number(f"{run}:scale", *SCALES, 1.0)

    def _source(self, position: str, decisions: Decisions) -> Source:
        taken = decisions.get(f"{position}:take", MIX)
        if taken != MIX:
            return self.candidates.source(taken)
        weight = tuple(decisions[f"{position}:{expert}"] for expert in self.candidates.experts)
        return Source.operator("task_arithmetic", weight=weight)

    def _layer(
        self, segment: str, index: int, sources: dict[str, Source], decisions: Decisions
    ) -> Layer | None:
        here = [at for at in self._positions if at.segment == segment and index in at.indices]
        parts: Parts = tuple((at.component, sources[at.name]) for at in here)
        run = here[0].name.rpartition("/")[0]
        if decisions.get(f"{run}:skip", False):
            return None
        return Layer(index, parts, decisions.get(f"{run}:scale", 1.0))

    def _shared_parts(self, sources: dict[str, Source]) -> Parts:
        here = [at for at in self._positions if not at.indices]
        return tuple((at.component, sources[at.name]) for at in here) or self.candidates.shared

    def _weights(self, source: Source) -> tuple[float, ...] | None:
        """The λ of each expert where the source is a mix of them as this space knows; else None."""
        weights = self.candidates.weights(source)
        allowed = weights is not None and all(0 <= value <= self.largest for value in weights)
        return weights if allowed else None

    @property
    def _idle(self) -> tuple[float, ...]:
        """The λ of each expert where nothing says another: the average's, if they may be."""
        experts = len(self.candidates.experts)
        return (min(1 / experts, self.largest),) * experts

    def _everywhere(self, take: str | None, weights: tuple[float, ...]) -> Decisions:
        decisions: Decisions = {}
        for name, setting in self.decisions.items():
            what = name.rpartition(":")[2]
            if what == "take":
                decisions[name] = take or MIX
            elif what in ("scale", "skip"):
                decisions[name] = setting.default
            else:
                decisions[name] = weights[self.candidates.experts.index(what)]
        return decisions
