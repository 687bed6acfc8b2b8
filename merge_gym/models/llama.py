"""Decoders laid out as Llama is: Llama (SmolLM too), Mistral, Qwen2, Qwen3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from merge_gym.models.adapter import (
    Inputs,
    ModelAdapter,
    Stack,
    adapter,
    depth_field,
    tensors_of,
)

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


@dataclass(frozen=True)
class Context:
    """What a layer reads beside its hidden states: masks by kind of layer, and rotary angles."""

    masks: dict[str | None, Tensor | None]
    positions: Tensor
    rotary: tuple[Tensor, Tensor]


@adapter(*CLASSES)
def llama(config: PretrainedConfig) -> ModelAdapter:
    """One segment, `layers`; no head: the output matrix is shared, tied to the embeddings or not.
    A layer keeps its kind of attention (full or sliding window) wherever it stands."""
    depth = depth_field("num_hidden_layers")
    return ModelAdapter(
        stacks={"layers": Stack("model.layers", config.num_hidden_layers, depth)},
        head=(),
        model_class=lambda: getattr(transformers, CLASSES[config.model_type]),
        enter=_enter,
        layer=_layer,
        tail=lambda model, hidden, inputs: model.lm_head(model.model.norm(hidden)),
        positions=config.max_position_embeddings,
        components={"attention": ("self_attn.",), "mlp": ("mlp.",)},
        writes=tensors_of("self_attn.o_proj", "mlp.down_proj"),
        final=("model.norm.", "lm_head."),
    )


def _enter(
    model: Any, segment: str, inputs: Inputs, previous: Tensor | None
) -> tuple[Tensor, Context]:
    hidden = model.model.embed_tokens(inputs["input_ids"])
    positions = inputs.get("position_ids")
    if positions is None:
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
    settings = {
        "config": model.config,
        "inputs_embeds": hidden,
        "attention_mask": inputs.get("attention_mask"),
        "past_key_values": None,
        "position_ids": positions,
    }
    full = sliding = create_causal_mask(**settings)
    if getattr(model.config, "sliding_window", None) is not None:
        sliding = create_sliding_window_causal_mask(**settings)
    # Layers that state no kind are all alike: sliding where the configuration has a window.
    masks = {"full_attention": full, "sliding_attention": sliding, None: sliding}
    return hidden, Context(masks, positions, model.model.rotary_emb(hidden, positions))


def _layer(module: Any, hidden: Tensor, context: Context) -> Tensor:
    return module(
        hidden,
        attention_mask=context.masks[getattr(module.self_attn, "layer_type", None)],
        position_ids=context.positions,
        position_embeddings=context.rotary,
    )
