"""What can stand at each layer of a suite's models, by name and value, apart from any tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from merge_gym.library import Place, Shapes
from merge_gym.messages import unknown_name
from merge_gym.recipe import Calibration, Layer, Parts, Recipe, Source, whole
from merge_gym.spaces.episode import Episode


@dataclass(frozen=True)
class Family:
    """What the layers of a suite's models offer to decide, beside taking them whole.

    Attributes:
        components: whether attention, mlp and the rest of a layer can be decided apart.
        norm: whether the norm after the last layer can be decided apart from the stem.
        scales: whether the branches of a layer can be scaled.
    """

    components: bool = False
    norm: bool = False
    scales: bool = False

    def check(self, components: bool = False, scales: bool = False) -> None:
        """ValueError where it does not offer what a space is set to decide."""
        if components and not self.components:
            raise ValueError(
                "the suite's family of models does not say which tensors are attention and which "
                "mlp: set components=false"
            )
        if scales and not self.scales:
            raise ValueError("the suite's family of models has no scales: set scales=false")


class Candidates:
    """The sources that an environment's actions choose from, and the recipes they spell.

    Attributes:
        suite, digest: name and digest of the suite that recipes are made for.
        segments: {segment name: number of layers}.
        sources: the N+M sources by value, in action order.
        names: what they are called.
        shared: sources of the parameters outside the layers.
        family: what the models' layers offer to decide.
        heads: how heads are calibrated in every recipe made here; None takes the experts' own.
        shapes: of the tensors of every component of one model; none where no bank has said.
        likeness: how alike the experts' task vectors are at a place, as cosines, shape (N, N).
    """

    shapes: Shapes = {}
    likeness: Callable[[Place], NDArray[np.float64]] | None = None

    def __init__(
        self,
        suite: str,
        digest: str,
        segments: Mapping[str, int],
        sources: Sequence[Source],
        names: Sequence[str],
        shared: Parts,
        family: Family = Family(),
        heads: Calibration | None = None,
    ) -> None:
        self.suite, self.digest = suite, digest
        self.segments = dict(segments)
        self.sources, self.names = tuple(sources), tuple(names)
        self.shared, self.family, self.heads = shared, family, heads

    def __len__(self) -> int:
        """N+M."""
        return len(self.sources)

    @property
    def depth(self) -> int:
        """L, the number of layers over all segments."""
        return sum(self.segments.values())

    @property
    def places(self) -> list[tuple[str, int]]:
        """(segment, index) of every layer, from the input to the output."""
        return [
            (segment, index) for segment, size in self.segments.items() for index in range(size)
        ]

    @property
    def experts(self) -> tuple[str, ...]:
        """The names of the N experts, which come first."""
        return tuple(source.name for source in self.sources if source.kind == "expert")

    def source(self, name: str) -> Source:
        """The candidate of that name; ValueError if there is none."""
        if name not in self.names:
            raise ValueError(unknown_name("candidate", name, self.names))
        return self.sources[self.names.index(name)]

    def weights(self, source: Source) -> tuple[float, ...] | None:
        """How much of each expert's task vector a source holds, as λ of task arithmetic; None where
        it is no such sum of all experts' task vectors."""
        given, experts = dict(source.parameters).get("weight"), self.experts
        if source.kind == "expert":
            return tuple(float(name == source.name) for name in experts)
        if source.name not in ("average", "task_arithmetic") or source.experts or given is None:
            return None
        weights = given if isinstance(given, tuple) else (float(given),) * len(experts)
        scale = sum(weights) if source.name == "average" else 1.0
        if not scale:  # an average of nothing, which the operator refuses
            return None
        return tuple(weight / scale for weight in weights)

    def label(self, source: Source) -> str:
        """The candidate's name where `source` is one, else the source written out."""
        if source in self.sources:
            return self.names[self.sources.index(source)]
        return str(source)

    def recipe(self, taken: Iterable[Sequence[int]]) -> Recipe:
        """The recipe of (layer, candidate) pairs; layers are numbered through all segments."""
        choices = ((self._choices[layer], candidate) for layer, candidate in taken)
        return self.put_together((segment, of[candidate]) for (segment, of), candidate in choices)

    def put_together(
        self, layers: Iterable[tuple[str, Layer]], shared: Parts | None = None
    ) -> Recipe:
        """The recipe of (segment, layer) pairs, each segment's from the input to the output; shared
        parameters as in all recipes here, unless they are given."""
        stacks: dict[str, list[Layer]] = {segment: [] for segment in self.segments}
        for segment, layer in layers:
            stacks[segment].append(layer)
        segments = tuple((segment, tuple(stack)) for segment, stack in stacks.items())
        return Recipe(self.digest, self.shared if shared is None else shared, segments, self.heads)

    def walk(self, actions: Iterable[int]) -> Recipe:
        """What `actions` build by the rules of the MDP.

        Raises ValueError if they do not end a valid episode.
        """
        episode = Episode(len(self), tuple(self.segments.values()), max_steps=None)
        for position, action in enumerate(actions):
            if episode.ended:
                raise ValueError(f"the episode ended before action {position}; nothing may follow")
            episode.step(action)
        if not episode.complete:
            raise ValueError(
                f"the actions do not build a model: the episode stands at layer {episode.cursor} "
                f"of {episode.layers}{' and is invalid' if episode.ended else ''}"
            )
        return self.recipe(episode.taken)

    def repeated(self, source: Source, shared: Parts | None = None) -> Recipe:
        """Every layer, in order, from one source; shared parameters as in all recipes here, unless
        they are given."""
        layers = ((segment, Layer.of(index, source)) for segment, index in self.places)
        return self.put_together(layers, shared)

    def uniform(self, source: Source) -> Recipe:
        """The whole model from one source, what is shared included."""
        return self.repeated(source, whole(source))

    def check(self, recipe: Recipe) -> None:
        """ValueError unless `recipe` was made for this suite and its layers are in range."""
        if recipe.suite != self.digest:
            raise ValueError(
                f"the recipe was made for the suite with digest {recipe.suite}, this is "
                f"{self.suite} with digest {self.digest}: load the recipe's own suite"
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

    @cached_property
    def _choices(self) -> list[tuple[str, tuple[Layer, ...]]]:
        """For each layer through all segments, its segment and what can be taken there."""
        return [
            (segment, tuple(Layer.of(index, source) for source in self.sources))
            for segment, index in self.places
        ]
