"""The recipe: which layers a merged model is made of, by value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

FORMAT = "merge_gym.recipe/2"
FORMATS = ("merge_gym.recipe/1", FORMAT)
FIELDS = {"format", "suite", "shared", "segments", "heads"}

FLOAT32_END = 2.0**128 - 2.0**103
"""From here on a float32 is infinite."""

WHOLE = "*"
"""The part that stands for all components."""

LAYER_COMPONENTS = ("attention", "mlp", "rest")
SHARED_COMPONENTS = ("stem", "norm")


@dataclass(frozen=True)
class Source:
    """Where tensors come from: an expert as it is, an operator with its settings, or a residual, a
    merge with what an expert differs from it by, compressed.

    `parameters` are sorted (name, value) pairs, so that equal sources are equal and hashable;
    lists become tuples. An expert has none. `experts` are the experts that an operator merges, in
    the suite's order; none for all of them. `base` is the merge that a residual is added to.
    """

    kind: str
    name: str
    parameters: tuple[tuple[str, Any], ...] = ()
    experts: tuple[str, ...] = ()
    base: Source | None = None

    @classmethod
    def expert(cls, name: str) -> Source:
        return cls("expert", name)

    @classmethod
    def operator(cls, name: str, experts: Iterable[str] = (), **parameters: Any) -> Source:
        pairs = sorted((key, _frozen(value)) for key, value in parameters.items())
        return cls("operator", name, tuple(pairs), tuple(experts))

    @classmethod
    def residual(cls, expert: str, base: Source, rank: int = 0) -> Source:
        """`base` plus what `expert` differs from it by: of matrices the best approximation of
        `rank`, or with 0 one bit a value, the sign; vectors whole."""
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 0:
            raise ValueError(f"a residual's rank is a whole number of at least 0, got {rank!r}")
        return cls("residual", expert, (("rank", rank),), base=base)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Source:
        if "expert" in data and len(data) == 1:
            return cls.expert(_text(data["expert"]))
        if set(data) == {"residual", "rank", "base"}:
            base = cls.from_dict(data["base"])
            return cls.residual(_text(data["residual"]), base, data["rank"])
        if "operator" in data:
            given = {
                key: value for key, value in data.items() if key not in ("operator", "experts")
            }
            experts = [_text(name) for name in data.get("experts", ())]
            return cls.operator(_text(data["operator"]), experts, **given)
        raise ValueError(
            f"a source is {{'expert': name}} or {{'operator': name, …}}, got {_short(data)}"
        )

    def to_dict(self) -> dict[str, Any]:
        data = {self.kind: self.name, **{name: _thawed(value) for name, value in self.parameters}}
        more = {"experts": list(self.experts)} if self.experts else {}
        return data | more | ({"base": self.base.to_dict()} if self.base else {})

    def __str__(self) -> str:
        if self.base is not None:
            rank = dict(self.parameters)["rank"]
            return f"{self.base}+{f'rank {rank}' if rank else '1 bit'} of {self.name}"
        settings = [f"{name}={_thawed(value)}" for name, value in self.parameters]
        inside = ", ".join(
            [*settings, *(["experts=" + "+".join(self.experts)] * bool(self.experts))]
        )
        return f"{self.name}({inside})" if inside else self.name


Parts = tuple[tuple[str, Source], ...]
"""One source for all, `(("*", source),)`, or one for each component."""


def whole(source: Source) -> Parts:
    """The parts of what comes from one source."""
    return ((WHOLE, source),)


@dataclass(frozen=True)
class Layer:
    """One layer of the merged model.

    Attributes:
        index: which layer of its segment, from 0.
        parts: one source, or one for each of `attention`, `mlp` and `rest`.
        scale: factor of what the layer's branches (attention, mlp) add to the hidden states.
        stream: factor of the layer's whole output.
    """

    index: int
    parts: Parts
    scale: float = 1.0
    stream: float = 1.0

    @classmethod
    def of(cls, index: int, source: Source, scale: float = 1.0, stream: float = 1.0) -> Layer:
        """A layer that is one source's throughout."""
        return cls(index, whole(source), scale, stream)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources of its parts, in order."""
        return tuple(source for _, source in self.parts)

    @property
    def source(self) -> Source:
        """The source of all of it; ValueError where its components differ in that."""
        if len(set(self.sources)) > 1:
            raise ValueError(f"layer {self.index} has a source for each component: {self}")
        return self.sources[0]

    def __str__(self) -> str:
        scales = f" ×{self.scale:.3g}" * (self.scale != 1) + f" ≫{self.stream:.3g}" * (
            self.stream != 1
        )
        return f"{self.index}:{parts_text(self.parts)}{scales}"


@dataclass(frozen=True)
class Calibration:
    """How heads are calibrated to a merged trunk, see `merge_gym.merging.heads`.

    Attributes:
        examples: how many inputs of each task's search split are used, without their labels.
        ridge: strength of the penalty; None for the best by leave-one-out.
        seed: which inputs.
    """

    examples: int = 200
    ridge: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        whole = isinstance(self.examples, int) and not isinstance(self.examples, bool)
        if not whole or self.examples < 2:
            raise ValueError(
                f"calibration uses a whole number of at least 2 examples, got "
                f"{_short(self.examples)}"
            )
        if self.ridge is not None and not _factor(self.ridge) >= 0:
            raise ValueError(f"a ridge is at least 0, got {self.ridge!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"a seed is a whole number of at least 0, got {_short(self.seed)}")


class Candidates(Protocol):
    """What spells recipes from actions; `merge_gym.spaces.Candidates`."""

    def walk(self, actions: Iterable[int]) -> Recipe: ...


class HasCandidates(Protocol):
    """A bank or a table."""

    @property
    def candidates(self) -> Candidates: ...


class Bank(Protocol):
    """What knows sources by name; `merge_gym.LayerBank`."""

    def uniform(self, spec: str | Mapping[str, Any] | Source) -> Recipe: ...


@dataclass(frozen=True)
class Recipe:
    """The ordered layers of a merged model, with the sources of each.

    Attributes:
        suite: digest of the suite that the recipe was made for.
        shared: the source of the parameters outside the layers, or one each for the `stem`
            (embeddings) and the `norm` after the last layer.
        segments: (segment name, its layers from the input to the output), in the model's order.
        heads: how the experts' heads are calibrated to the merged trunk; None takes them as they
            are.
    """

    suite: str
    shared: Parts
    segments: tuple[tuple[str, tuple[Layer, ...]], ...]
    heads: Calibration | None = None

    @classmethod
    def from_actions(cls, actions: Iterable[int], bank: HasCandidates | Candidates) -> Recipe:
        """Replay `actions` by the rules of the MDP and return what they build.

        Raises ValueError if the actions do not end a valid episode.
        """
        held: Any = bank
        candidates: Candidates = getattr(held, "candidates", held)
        return candidates.walk(actions)

    @classmethod
    def uniform(cls, source: str | Mapping[str, Any] | Source, bank: Bank) -> Recipe:
        """The whole model from one expert or operator: every layer, in order, and all that is
        shared. (With the bank's own shared parameters: `bank.candidates.repeated`.)"""
        return bank.uniform(source)

    @property
    def depth(self) -> int:
        """Number of layers over all segments."""
        return sum(len(layers) for _, layers in self.segments)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every source that it takes, each once."""
        layers = (layer for _, layers in self.segments for layer in layers)
        taken = [source for layer in layers for source in layer.sources]
        return tuple(dict.fromkeys([*taken, *(source for _, source in self.shared)]))

    def to_json(self) -> str:
        """The recipe as JSON text; `from_json` gives an equal recipe back."""
        return json.dumps(self.to_dict(), indent=2)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return {
            "format": FORMAT,
            "suite": self.suite,
            "shared": _parts_to_dict(self.shared),
            "segments": {
                name: [_layer_to_dict(layer) for layer in layers] for name, layers in self.segments
            },
            "heads": "own" if self.heads is None else {"calibrated": vars(self.heads)},
        }

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read a recipe written by `to_json`, of this format or an earlier one; ValueError if the
        text is none."""
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"a recipe is JSON text, this is not: {error}") from None
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> Recipe:
        """The recipe of the values that `to_dict` gives; ValueError if they are none."""
        if not isinstance(data, dict) or data.get("format") not in FORMATS:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"expected a recipe of format {FORMAT!r}, got {_short(found)}")
        if unknown := sorted(data.keys() - FIELDS):
            raise ValueError(f"a recipe has no field {_short(unknown[0])}, only {sorted(FIELDS)}")
        try:
            segments = tuple(
                (name, tuple(_layer_from_dict(entry) for entry in _list(layers)))
                for name, layers in data["segments"].items()
            )
            shared = _parts_from_dict(data["shared"], SHARED_COMPONENTS)
            heads = _heads_from_dict(data.get("heads", "own"))
            return cls(_text(data["suite"]), shared, segments, heads)
        except KeyError as error:
            raise ValueError(f"the recipe lacks the field {error}") from None
        except (AttributeError, TypeError, RecursionError) as error:
            raise ValueError(f"the recipe is not as to_json writes it: {error}") from None

    def __str__(self) -> str:
        return " | ".join(
            f"{name}: " + " → ".join(map(str, layers)) for name, layers in self.segments
        )


def parts_text(parts: Parts) -> str:
    """The parts in a few words."""
    if len(parts) == 1:
        return str(parts[0][1])
    return "[" + " ".join(f"{component}={source}" for component, source in parts) + "]"


def _heads_from_dict(data: Any) -> Calibration | None:
    if data == "own":
        return None
    if (
        isinstance(data, dict)
        and set(data) == {"calibrated"}
        and isinstance(data["calibrated"], dict)
    ):
        return Calibration(**data["calibrated"])
    raise ValueError(f"heads are 'own' or {{'calibrated': settings}}, got {_short(data)}")


def _parts_to_dict(parts: Parts) -> dict[str, Any]:
    if parts[0][0] == WHOLE:
        return parts[0][1].to_dict()
    return {"parts": {component: source.to_dict() for component, source in parts}}


def _parts_from_dict(data: Mapping[str, Any], components: tuple[str, ...]) -> Parts:
    if "parts" not in data:
        return whole(Source.from_dict(data))
    given = data["parts"]
    if len(data) > 1 or set(given) != set(components):
        raise ValueError(
            f"parts name a source for each of {', '.join(components)}, got {_short(data)}"
        )
    return tuple((component, Source.from_dict(given[component])) for component in components)


def _layer_to_dict(layer: Layer) -> dict[str, Any]:
    factors = {"scale": layer.scale, "stream": layer.stream}
    changed = {name: factor for name, factor in factors.items() if factor != 1}
    return {"layer": layer.index, **changed, **_parts_to_dict(layer.parts)}


def _layer_from_dict(entry: Mapping[str, Any]) -> Layer:
    source = {k: v for k, v in entry.items() if k not in ("layer", "scale", "stream")}
    factors = [_factor(entry.get(name, 1.0)) for name in ("scale", "stream")]
    return Layer(_index(entry["layer"]), _parts_from_dict(source, LAYER_COMPONENTS), *factors)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"a segment's layers are a list, got {_short(value)}")
    return value


def _index(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"a layer is a whole number from 0, got {_short(value)}")
    return value


def _factor(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and abs(value) < FLOAT32_END):
        raise ValueError(f"a scale is a finite number, got {_short(value)}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a name is a text, got {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"a setting is a number, a text or a list of them, got {_short(value)}")


def _thawed(value: Any) -> Any:
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value
