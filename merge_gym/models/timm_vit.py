"""Vision Transformers of timm (ViT, DeiT), through the wrapper that transformers has for timm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig

from merge_gym.models.adapter import Inputs, ModelAdapter, Stack, adapter
from merge_gym.models.generic import generic


@adapter("timm_wrapper")
def timm_vit(config: PretrainedConfig) -> ModelAdapter:
    """One segment, `layers`; the head is timm's `head` (and `head_dist` of a distilled DeiT).
    Another architecture than timm's VisionTransformer is opened by the generic adapter."""
    # timm is optional, and imports torchvision: only who opens a timm checkpoint needs them.
    from timm.models.vision_transformer import VisionTransformer

    with torch.device("meta"):
        model = transformers.TimmWrapperForImageClassification(config).timm_model
    if not isinstance(model, VisionTransformer):
        return generic(config)
    return ModelAdapter(
        stacks={"layers": Stack("timm_model.blocks", len(model.blocks), _resize)},
        head=("timm_model.head.", "timm_model.head_dist."),
        model_class=lambda: transformers.TimmWrapperForImageClassification,
        enter=_enter,
        layer=lambda module, hidden, context: module(hidden),
        tail=lambda model, hidden, inputs: model.timm_model.forward_head(
            model.timm_model.norm(hidden)
        ),
        opened_by='import timm\n\nmodel = timm.create_model("local-dir:{task}", pretrained=True)',
        unsaved_prefix="timm_model.",
    )


def _resize(config: PretrainedConfig, indices: Sequence[int]) -> None:
    config.model_args = {**(config.model_args or {}), "depth": len(indices)}


def _enter(
    model: Any, segment: str, inputs: Inputs, previous: Tensor | None
) -> tuple[Tensor, None]:
    trunk = model.timm_model
    patches = trunk.patch_embed(inputs["pixel_values"])
    return trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(patches))), None
