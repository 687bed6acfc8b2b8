"""Vision Transformers of timm (ViT, DeiT), through the wrapper that transformers has for timm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig

from merge_gym.models.adapter import Inputs, ModelAdapter, Stack, adapter, linear_tail, tensors_of
from merge_gym.models.generic import generic

READOUT = "timm_model.head"


@adapter("timm_wrapper")
def timm_vit(config: PretrainedConfig) -> ModelAdapter:
    """One segment, `layers`; the head is timm's `head` (and `head_dist` of a distilled DeiT).
    Another architecture than timm's VisionTransformer is opened by the generic adapter."""
    # timm is optional, and imports torchvision: only who opens a timm checkpoint needs them.
    from timm.models.vision_transformer import Block, VisionTransformer

    with torch.device("meta"):
        model = transformers.TimmWrapperForImageClassification(config).timm_model
    if not isinstance(model, VisionTransformer):
        return generic(config)
    plain = type(model.blocks[0]) is Block  # the others norm or join what their branches write
    distilled = hasattr(model, "head_dist")  # whose two linear heads read a token each
    return ModelAdapter(
        stacks={"layers": Stack("timm_model.blocks", len(model.blocks), _resize)},
        head=("timm_model.head.", "timm_model.head_dist."),
        model_class=lambda: transformers.TimmWrapperForImageClassification,
        enter=_enter,
        layer=lambda module, hidden, context: module(hidden),
        tail=_tail if distilled else linear_tail(_features, READOUT),
        features=None if distilled else _features,
        readout="" if distilled else READOUT,
        opened_by='import timm\n\nmodel = timm.create_model("local-dir:{task}", pretrained=True)',
        unsaved_prefix="timm_model.",
        components={"attention": ("attn.",), "mlp": ("mlp.",)} if plain else {},
        writes=tensors_of("attn.proj", "mlp.fc2") if plain else (),
        final=("timm_model.norm.", "timm_model.fc_norm.", "timm_model.attn_pool."),
    )


def _resize(config: PretrainedConfig, indices: Sequence[int]) -> None:
    config.model_args = {**(config.model_args or {}), "depth": len(indices)}


def _enter(
    model: Any, segment: str, inputs: Inputs, previous: Tensor | None
) -> tuple[Tensor, None]:
    trunk = model.timm_model
    patches = trunk.patch_embed(inputs["pixel_values"])
    return trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(patches))), None


def _features(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
    trunk = model.timm_model
    return trunk.forward_head(trunk.norm(hidden), pre_logits=True)


def _tail(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
    trunk = model.timm_model
    return trunk.forward_head(trunk.norm(hidden))
