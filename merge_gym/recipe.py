"""The recipe: which layers a merged model is made of, by value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any

from merge_gym.spaces.episode import Episode

if TYPE_CHECKING:
    from merge_gym.spaces.candidates import Candidates

FORMAT = "merge_gym.recipe/1"


@dataclass(frozen=True)
class Source:
    """Where tensors come from: an expert as it is, or an operator with its hyper-parameters.

    `parameters` are sorted (name, value) pairs, so that equal sources are equal and hashable;
    lists become tuples. An expert has none.
    """

    kind: str
    name: str
    parameters: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def expert(cls, name: str) -> Source:
        return cls("expert", name)

    @classmethod
    def operator(cls, name: str, **parameters: Any) -> Source:
        return cls("operator", name, tuple(sorted((k, _frozen(v)) for k, v in parameters.items())))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Source:
        if "expert" in data and len(data) == 1:
            return cls.expert(data["expert"])
        if "operator" in data:
            return cls.operator(
                data["operator"], **{k: v for k, v in data.items() if k != "operator"}
            )
        raise ValueError(f"a source is {{'expert': name}} or {{'operator': name, …}}, got {data!r}")

    def to_dict(self) -> dict[str, Any]:
        return {self.kind: self.name, **{name: _thawed(value) for name, value in self.parameters}}

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={_thawed(value)}" for name, value in self.parameters)
        return f"{self.name}({inside})" if inside else self.name


@dataclass(frozen=True)
class Layer:
    """One layer of the merged model: layer `index` (from 0, in its segment) of `source`."""

    index: int
    source: Source


@dataclass(frozen=True)
class Recipe:
    """The ordered layers of a merged model, with the source of each.

    Attributes:
        suite: digest of the suite that the recipe was made for.
        shared: source of the parameters outside the layers (embeddings, final norm).
        segments: (segment name, its layers from the input to the output), in the model's order.
    """

    suite: str
    shared: Source
    segments: tuple[tuple[str, tuple[Layer, ...]], ...]

    @classmethod
    def from_actions(cls, actions: Iterable[int], bank: Candidates) -> Recipe:
        """Replay `actions` by the rules of the MDP and return what they build.

        Raises ValueError if the actions do not end a valid episode.
        """
        sizes = tuple(bank.segments.values())
        episode = Episode(len(bank.candidates), sizes, max_steps=None)
        for position, action in enumerate(actions):
            if episode.ended:
                raise ValueError(f"the episode ended before action {position}; nothing may follow")
            episode.step(action)
        if not episode.complete:
            raise ValueError(
                f"the actions do not build a model: the episode stands at layer {episode.cursor} "
                f"of {sum(sizes)}{' and is invalid' if episode.ended else ''}"
            )
        return bank.recipe(episode.taken)

    @classmethod
    def uniform(cls, source: str | Mapping[str, Any] | Source, bank: Candidates) -> Recipe:
        """The recipe that takes every layer, in order, from one expert or operator."""
        chosen = bank.source(source)
        segments = tuple(
            (segment, tuple(Layer(index, chosen) for index in range(size)))
            for segment, size in bank.segments.items()
        )
        return cls(bank.digest, bank.shared, segments)

    @property
    def depth(self) -> int:
        """Number of layers over all segments."""
        return sum(len(layers) for _, layers in self.segments)

    def to_json(self) -> str:
        """The recipe as JSON text; `from_json` gives an equal recipe back."""
        data = {
            "format": FORMAT,
            "suite": self.suite,
            "shared": self.shared.to_dict(),
            "segments": {
                name: [{"layer": layer.index, **layer.source.to_dict()} for layer in layers]
                for name, layers in self.segments
            },
        }
        return json.dumps(data, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read a recipe written by `to_json`; ValueError if the text is none."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"a recipe is JSON text, this is not: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"expected a recipe of format {FORMAT!r}, got {found!r}")
        try:
            segments = tuple(
                (name, tuple(_layer(entry) for entry in layers))
                for name, layers in data["segments"].items()
            )
            return cls(data["suite"], Source.from_dict(data["shared"]), segments)
        except KeyError as error:
            raise ValueError(f"the recipe lacks the field {error}") from None
        except (AttributeError, TypeError) as error:
            raise ValueError(f"the recipe is not as to_json writes it: {error}") from None

    def __str__(self) -> str:
        return " | ".join(
            f"{name}: " + " → ".join(f"{layer.index}:{layer.source}" for layer in layers)
            for name, layers in self.segments
        )


def _layer(entry: Mapping[str, Any]) -> Layer:
    source = {key: value for key, value in entry.items() if key != "layer"}
    return Layer(index(entry["layer"]), Source.from_dict(source))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value
