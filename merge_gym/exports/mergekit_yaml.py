"""A recipe as a mergekit configuration, where mergekit can express it.

Written against mergekit 0.1.5: one method a document, slices of layers, parameters with filters on
tensor names, and documents that name one another (`mergekit-multi`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from merge_gym.merging.bank import LayerBank
from merge_gym.models import lora
from merge_gym.models.files import local_directory
from merge_gym.recipe import Layer, Recipe, Source

MODEL_TYPES = ("gpt2", "llama", "mistral")
"""Families whose layers mergekit can cut. It leaves `layer_types` (Qwen) at their old length, moves
T5's position biases with the layers, and merges task heads."""

Document = dict[str, Any]


class NotExpressibleError(ValueError):
    """mergekit cannot build this recipe; the message says why."""


def mergekit_yaml(recipe: Recipe, bank: LayerBank) -> str:
    """The recipe as YAML; `mergekit-yaml` runs one document, `mergekit-multi` several.

    Where the recipe takes operators, each is merged over the whole model in a document of its own
    that the last one cuts layers from.

    Raises NotExpressibleError.
    """
    _check_models(bank)
    _check_plain(recipe)
    (_, layers), *_ = recipe.segments
    ((_, shared),) = recipe.shared
    if not layers:
        raise NotExpressibleError("mergekit builds no model without layers")
    sources = list(dict.fromkeys([*(layer.source for layer in layers), shared]))
    stages = {source: _stage(source, bank) for source in sources if source.kind == "operator"}
    if layers == Recipe.uniform(sources[0], bank).segments[0][1] and stages.keys() == {*sources}:
        return _dump(list(stages.values()))
    names = {source: f"{source.name}-{number}" for number, source in enumerate(stages, 1)}
    places = {source: names.get(source) or _place(source, bank) for source in sources}
    documents = [{"name": names[source], **stage} for source, stage in stages.items()]
    return _dump([*documents, _cut(layers, shared, places, bank)])


def _check_models(bank: LayerBank) -> None:
    config = bank.suite.pretrained.config
    if bank.suite.adapter.head:
        raise NotExpressibleError("mergekit merges task heads too, here each expert keeps its own")
    if config.model_type not in MODEL_TYPES:
        raise NotExpressibleError(f"mergekit cannot cut the layers of {config.model_type} so")
    for name, expert in bank.suite.experts.items():
        if lora.is_adapter(local_directory(expert.location)):
            raise NotExpressibleError(f"expert {name!r} is an adapter, merged here in its own way")


def _check_plain(recipe: Recipe) -> None:
    layers = [layer for _, layers in recipe.segments for layer in layers]
    if any(len(parts) > 1 for parts in (recipe.shared, *(layer.parts for layer in layers))):
        raise NotExpressibleError("mergekit takes a layer whole, here its components differ")
    if any((layer.scale, layer.stream) != (1, 1) for layer in layers):
        raise NotExpressibleError("it has layers whose output is scaled")
    if any(source.experts for source in recipe.sources):
        raise NotExpressibleError("it merges some of the experts only")


def _place(source: Source, bank: LayerBank) -> str:
    return bank.suite.experts[source.name].location


def _cut(
    layers: tuple[Layer, ...], shared: Source, places: Mapping[Source, str], bank: LayerBank
) -> Document:
    """The document that stacks the layers: passed through where the ends' models also give the
    shared parameters, else as sums with weights 0 and 1."""
    if layers[0].source == layers[-1].source == shared:
        slices = [[_slice(places[layer.source], layer.index)] for layer in layers]
        return {"merge_method": "passthrough", "slices": [{"sources": one} for one in slices]}
    (stack,) = bank.suite.adapter.stacks.values()
    slices = [
        [
            _slice(place, layer.index)
            | {
                "parameters": {
                    "weight": [
                        {"filter": f"{stack.path}.", "value": float(source == layer.source)},
                        {"value": float(source == shared)},
                    ]
                }
            }
            for source, place in places.items()
        ]
        for layer in layers
    ]
    return {"merge_method": "linear", "slices": [{"sources": one} for one in slices]}


def _slice(place: str, index: int) -> Document:
    return {"model": place, "layer_range": [index, index + 1]}


def _stage(source: Source, bank: LayerBank) -> Document:
    """The document that merges whole models as the operator does."""
    settings = dict(source.parameters)
    if source.name not in OPERATORS:
        raise NotExpressibleError(f"mergekit has no method that equals {source}")
    return OPERATORS[source.name](settings, bank)


def _average(settings: Mapping[str, Any], bank: LayerBank) -> Document:
    return {"merge_method": "linear", "models": _models(bank, weight=_weights(settings, bank))}


def _task_arithmetic(settings: Mapping[str, Any], bank: LayerBank) -> Document:
    return {
        "merge_method": "task_arithmetic",
        "base_model": bank.suite.pretrained.location,
        "models": _models(bank, weight=_weights(settings, bank)),
        "parameters": {"normalize": False},
    }


def _ties(settings: Mapping[str, Any], bank: LayerBank) -> Document:
    weights, density = _weights(settings, bank), settings["density"]
    mean = settings["consensus"] == "mean"
    if settings["scope"] != "tensor" and density < 1:
        raise NotExpressibleError("mergekit's ties trims each tensor by itself (scope: tensor)")
    if mean and len(set(weights)) > 1:
        raise NotExpressibleError("mergekit's ties divides by the weights that agree")
    sizes = [slot.stop - slot.start for group in _slots(bank) for slot in group]
    if any(max(1, int(density * size)) != max(1, round(density * size)) for size in sizes):
        raise NotExpressibleError(f"mergekit keeps another number of entries at density {density}")
    return {
        "merge_method": "ties",
        "base_model": bank.suite.pretrained.location,
        "models": _models(
            bank, weight=[1.0] * len(weights) if mean else weights, density=[density] * len(weights)
        ),
        "parameters": {"normalize": mean, "lambda": weights[0] if mean else 1.0},
    }


OPERATORS: dict[str, Callable[[Mapping[str, Any], LayerBank], Document]] = {
    "average": _average,
    "task_arithmetic": _task_arithmetic,
    "ties": _ties,
}


def _weights(settings: Mapping[str, Any], bank: LayerBank) -> list[float]:
    weight = settings["weight"]
    return list(weight) if isinstance(weight, tuple) else [weight] * len(bank.suite.experts)


def _models(bank: LayerBank, **parameters: list[float]) -> list[Document]:
    return [
        {
            "model": expert.location,
            "parameters": {name: values[number] for name, values in parameters.items()},
        }
        for number, expert in enumerate(bank.suite.experts.values())
    ]


def _slots(bank: LayerBank) -> Any:
    return bank.suite.pretrained.parameters.layout.groups.values()


def _dump(documents: list[Document]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False)
