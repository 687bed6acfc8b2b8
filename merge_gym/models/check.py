"""Whether a model runs as stem, layers, tail: tried once, before anything depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from merge_gym.models.adapter import Inputs, ModelAdapter, adapter_for
from merge_gym.models.checkpoint import Checkpoint
from merge_gym.models.parameters import SHARED
from merge_gym.models.weights import build, fill, own_tensors

TOLERANCE = 1e-4
"""How far logits may be off in float32, in parts of the greatest of them."""


@torch.inference_mode()
def check_forward(model: Checkpoint, inputs: Inputs) -> None:
    """Hold `enter`, `layer` and `tail` against the model's own `forward`, in float32.

    To cost little, the model has at most four layers a segment, two from either end. Each runs as
    a module that was built for another position, so that layers which know their number show it.

    Args:
        model: an expert with its head.
        inputs: two examples or so.

    Raises ValueError where logits differ or the model does not run so at all.
    """
    try:
        off, scale = _deviation(model, adapter_for(model.config), inputs)
    except Exception as error:  # a foreign forward fails in ways of its own
        raise ValueError(_refusal(model, f"{type(error).__name__}: {error}")) from error
    if not off <= TOLERANCE * scale:
        raise ValueError(_refusal(model, f"logits of up to {scale:.2g} are off by {off:.2g}"))


def _deviation(model: Checkpoint, adapter: ModelAdapter, inputs: Inputs) -> tuple[float, float]:
    """The greatest difference of a logit, and the greatest logit."""
    whole = _ends(model, adapter)
    moved = _reversed(whole, adapter)
    expected = whole(**inputs).logits
    hidden: Any = None
    for segment, modules in adapter.layers(moved).items():
        hidden, context = adapter.enter(whole, segment, inputs, hidden)
        if len(hidden) != len(expected):
            raise ValueError(f"hidden states of {len(expected)} examples have {len(hidden)} rows")
        for module in reversed(modules):
            hidden = adapter.layer(module, hidden, context)
    found = adapter.tail(whole, hidden, inputs)
    return float((found - expected).abs().max()), float(expected.abs().max())


def _ends(model: Checkpoint, adapter: ModelAdapter) -> PreTrainedModel:
    """The model's own tensors, with the first and the last two layers of each segment."""
    layers = {
        segment: sorted({0, 1, size - 2, size - 1} & set(range(size)))
        for segment, size in adapter.segments.items()
    }
    tensors = {**model.parameters.group(SHARED), **model.head}
    for segment, indices in layers.items():
        for position, index in enumerate(indices):
            for name, tensor in model.parameters.group((segment, index)).items():
                tensors[adapter.tensor_name(segment, position, name)] = tensor
    config = adapter.config(layers, model.config)
    return _filled(adapter, config, {name: tensor.float() for name, tensor in tensors.items()})


def _reversed(model: PreTrainedModel, adapter: ModelAdapter) -> PreTrainedModel:
    """The same tensors with the layers of each segment in the opposite order."""
    last = {segment: len(modules) - 1 for segment, modules in adapter.layers(model).items()}
    tensors = {}
    for name, tensor in own_tensors(model).items():
        place = adapter.place(name)
        if place.part == "layer":
            position = last[place.segment] - place.index
            name = adapter.tensor_name(place.segment, position, place.name)
        tensors[name] = tensor
    order = {segment: range(size, -1, -1) for segment, size in last.items()}
    return _filled(adapter, adapter.config(order, model.config), tensors)


def _filled(
    adapter: ModelAdapter, config: PretrainedConfig, tensors: Mapping[str, Tensor]
) -> PreTrainedModel:
    model = build(adapter, config)
    absent = fill(model, tensors, assign=True)
    if absent:
        raise ValueError(f"{', '.join(sorted(absent)[:3])} change with the number of layers")
    return model.eval()


def _refusal(model: Checkpoint, what: str) -> str:
    return (
        f"models of type {model.config.model_type!r} do not run as stem, layers, tail: {what} "
        f"({model.location}). They need an adapter of their own, see docs/families.md"
    )
