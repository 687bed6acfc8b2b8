"""Vision Transformers of transformers (ViT, DeiT) with a classification head."""

from __future__ import annotations

from typing import Any

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
from merge_gym.models.attention import attend_from

CLASSES = {"vit": "ViTForImageClassification", "deit": "DeiTForImageClassification"}


@adapter(*CLASSES)
def vit(config: PretrainedConfig) -> ModelAdapter:
    """One segment, `layers`; the head is `classifier` on the class token."""
    path, resize = f"{config.model_type}.layers", depth_field("num_hidden_layers")
    return ModelAdapter(
        stacks={"layers": Stack(path, config.num_hidden_layers, resize)},
        head=("classifier.",),
        model_class=lambda: getattr(transformers, CLASSES[config.model_type]),
        enter=_enter,
        layer=lambda module, hidden, context: module(hidden, None),
        tail=linear_tail(_features, "classifier"),
        last_layer=_last_layer,
        features=_features,
        readout="classifier",
        components={"attention": ("attention.",), "mlp": ("mlp.",)},
        writes=tensors_of("attention.o_proj", "mlp.fc2"),
        final=(f"{config.model_type}.layernorm.",),
    )


def _enter(
    model: Any, segment: str, inputs: Inputs, previous: Tensor | None
) -> tuple[Tensor, None]:
    return model.base_model.embeddings(inputs["pixel_values"]), None


def _features(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
    return model.base_model.layernorm(hidden)[:, 0]


def _last_layer(module: Any, hidden: Tensor, context: None) -> Tensor:
    attention = module.attention
    read = attend_from(
        0,
        module.layernorm_before(hidden),
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.num_attention_heads,
        attention.scaling,
    )
    token = attention.o_proj(read) + hidden[:, :1]
    return module.mlp(module.layernorm_after(token)) + token
