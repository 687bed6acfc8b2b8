"""DINOv2, with registers or without, with a classification head."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig

from merge_gym.models.adapter import (
    Inputs,
    ModelAdapter,
    Stack,
    adapter,
    depth_field,
    linear_tail,
    tensors_of,
)

CLASSES = {
    "dinov2": "Dinov2ForImageClassification",
    "dinov2_with_registers": "Dinov2WithRegistersForImageClassification",
}


@adapter(*CLASSES)
def dinov2(config: PretrainedConfig) -> ModelAdapter:
    """One segment, `layers`; the head is `classifier` on the class token and the mean of the
    patches, so the last layer is needed everywhere."""
    path, depth = f"{config.model_type}.encoder.layer", depth_field("num_hidden_layers")
    return ModelAdapter(
        stacks={"layers": Stack(path, config.num_hidden_layers, depth)},
        head=("classifier.",),
        model_class=lambda: getattr(transformers, CLASSES[config.model_type]),
        enter=_enter,
        layer=lambda module, hidden, context: module(hidden),
        tail=linear_tail(_features, "classifier"),
        features=_features,
        readout="classifier",
        components={"attention": ("attention.",), "mlp": ("mlp.",)},
        writes=tensors_of("attention.o_proj", "mlp.fc2", "mlp.down_proj"),
        final=(f"{config.model_type}.layernorm.",),
    )


def _enter(
    model: Any, segment: str, inputs: Inputs, previous: Tensor | None
) -> tuple[Tensor, None]:
    return model.base_model.embeddings(inputs["pixel_values"]), None


def _features(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
    tokens = model.base_model.layernorm(hidden)
    patches = tokens[:, 1 + getattr(model.config, "num_register_tokens", 0) :]
    return torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1)
