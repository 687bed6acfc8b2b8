"""The library: one recipe for each task over common modules, by value, and its storage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, Protocol

from merge_gym.recipe import WHOLE, Parts, Recipe, Source

FORMAT = "merge_gym.library/1"
PRECISIONS = (None, 8, 4, 2)
"""Bits of a stored weight; None for the experts' own precision."""

SHARED = ("", -1)
"""The segment and index of what lies outside the layers."""

Place = tuple[str, int, str]
"""(segment, layer, component): where a module stands; see SHARED for stem and norm."""

Shapes = Mapping[Place, tuple[tuple[int, ...], ...]]
"""The shapes of the tensors of every module of one model."""


class HasShapes(Protocol):
    """A space's candidates."""

    shapes: Shapes


@dataclass(frozen=True)
class Module:
    """One component of one layer from one source: what a library stores once."""

    place: Place
    source: Source


@dataclass(frozen=True)
class Storage:
    """What the modules of a library take.

    Attributes:
        models: in multiples of one model's mergeable parameters, heads not counted. A bit counts as
            a 32nd of a parameter.
        bytes: on disk in the given precision, scales and codes included, heads not counted.
    """

    models: float
    bytes: int


@dataclass(frozen=True)
class Library:
    """{task: recipe} over common modules.

    Attributes:
        recipes: (task, the recipe that its inputs run through), in the suite's order.
    """

    recipes: tuple[tuple[str, Recipe], ...]

    def __post_init__(self) -> None:
        if not self.recipes or len({recipe.suite for _, recipe in self.recipes}) > 1:
            raise ValueError("a library has a recipe for each task of one suite")
        if len(set(self.tasks)) < len(self.recipes):
            raise ValueError(f"a library has one recipe a task, got {', '.join(self.tasks)}")

    @classmethod
    def of(cls, recipes: Mapping[str, Recipe]) -> Library:
        return cls(tuple(recipes.items()))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for task, _ in self.recipes)

    @property
    def suite(self) -> str:
        """Digest of the suite that it was made for."""
        return self.recipes[0][1].suite

    def recipe(self, task: str) -> Recipe:
        """The recipe of a task; ValueError if there is none."""
        of = dict(self.recipes)
        if task not in of:
            raise ValueError(f"the library has recipes for {', '.join(of)}, not for {task!r}")
        return of[task]

    def modules(self, shapes: Shapes) -> tuple[Module, ...]:
        """The distinct modules, from the input to the output, each residual after its base."""
        found: dict[Module, None] = {}
        for _, recipe in self.recipes:
            for module in chain(recipe, shapes):
                for source in stored_sources(module.source):
                    found[Module(module.place, source)] = None
        return tuple(found)

    def storage(self, bank: Any, bits: int | None = None) -> Storage:
        """What the distinct modules take.

        Args:
            bank: of the suite, or its candidates.
            bits: of a stored weight: 8, 4 or 2; None for 32.
        """
        shapes: Shapes = getattr(bank, "candidates", bank).shapes
        one = sum(prod(shape) for tensors in shapes.values() for shape in tensors)
        values, size = 0.0, 0
        for module in self.modules(shapes):
            for shape in shapes[module.place]:
                values += _values(shape, module.source)
                size += _bytes(shape, module.source, bits)
        return Storage(values / one, size)

    def to_json(self) -> str:
        """The library as JSON text; `from_json` gives an equal one back."""
        return json.dumps(self.to_dict(), indent=2)

    def to_dict(self) -> dict[str, Any]:
        """The library as JSON values."""
        return {
            "format": FORMAT,
            "recipes": {task: recipe.to_dict() for task, recipe in self.recipes},
        }

    @classmethod
    def from_json(cls, text: str) -> Library:
        """Read what `to_json` wrote; ValueError if it is none."""
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"a library is JSON text, this is not: {error}") from None
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> Library:
        """The library of the values that `to_dict` gives; ValueError if they are none."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"expected a library of format {FORMAT!r}, got {str(found)[:200]}")
        recipes = data.get("recipes")
        if not isinstance(recipes, dict):
            raise ValueError("a library has 'recipes', one for each task")
        return cls(tuple((task, Recipe.from_dict(of)) for task, of in recipes.items()))


def chain(recipe: Recipe, shapes: Shapes) -> Iterator[Module]:
    """The modules that a recipe's inputs run through, stem and norm included, in no copies."""
    for segment, index, component in shapes:
        if (segment, index) == SHARED:
            yield Module((segment, index, component), _source(recipe.shared, component))
    for segment, layers in recipe.segments:
        for layer in layers:
            for place in components(shapes, segment, layer.index):
                yield Module(place, _source(layer.parts, place[2]))


def components(shapes: Shapes, segment: str, index: int) -> list[Place]:
    """The places of one layer's components."""
    return [place for place in shapes if place[:2] == (segment, index)]


def stored_sources(source: Source) -> Iterable[Source]:
    """What is stored for a source: of a residual its base too."""
    return (source,) if source.base is None else (source.base, source)


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a tensor is compressed; vectors stay as they are."""
    return len(shape) > 1


def rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    """The matrix that a tensor is compressed as: its first dimension by the others; the last is
    kept where the first is 1 (position embeddings)."""
    columns = prod(shape[1:]) if shape[0] > 1 else shape[-1]
    return prod(shape) // columns, columns


def _source(parts: Parts, component: str) -> Source:
    of = dict(parts)
    return of[component] if component in of else of[WHOLE]


def _values(shape: tuple[int, ...], source: Source) -> float:
    """How many parameters a tensor counts as."""
    if source.base is None or not is_matrix(shape):
        return prod(shape)
    rank = dict(source.parameters)["rank"]
    rows, columns = rows_and_columns(shape)
    return min(rank, rows, columns) * (rows + columns) if rank else prod(shape) / 32 + 1


def _bytes(shape: tuple[int, ...], source: Source, bits: int | None) -> int:
    """Of a stored tensor; factors of residuals take two bytes a value."""
    if not is_matrix(shape):
        return 4 * prod(shape)
    rows, columns = rows_and_columns(shape)
    if source.base is not None:
        rank = dict(source.parameters)["rank"]
        factors = min(rank, rows, columns) * (rows + columns)
        return 2 * factors if rank else ceil(prod(shape) / 8) + 4
    return 4 * prod(shape) if bits is None else ceil(prod(shape) * bits / 8) + 4 * rows
