"""GPT-2 as a language model."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig
from transformers.masking_utils import create_causal_mask

from merge_gym.models.adapter import (
    Inputs,
    ModelAdapter,
    Stack,
    adapter,
    depth_field,
    tensors_of,
)


@adapter("gpt2")
def gpt2(config: PretrainedConfig) -> ModelAdapter:
    """One segment, `layers`; no head: the output matrix is shared, as a rule tied to the
    embeddings."""
    if config.scale_attn_by_inverse_layer_idx:
        raise ValueError(
            "this GPT-2 divides its attention scores by the layer's number "
            "(scale_attn_by_inverse_layer_idx), so its layers cannot stand elsewhere"
        )
    return ModelAdapter(
        stacks={"layers": Stack("transformer.h", config.n_layer, depth_field("n_layer"))},
        head=(),
        model_class=lambda: transformers.GPT2LMHeadModel,
        enter=_enter,
        layer=lambda module, hidden, mask: module(hidden, attention_mask=mask),
        tail=lambda model, hidden, inputs: model.lm_head(model.transformer.ln_f(hidden)),
        positions=config.n_positions,
        components={"attention": ("attn.",), "mlp": ("mlp.",)},
        writes=tensors_of("attn.c_proj", "mlp.c_proj"),
        final=("transformer.ln_f.", "lm_head."),
    )


def _enter(
    model: Any, segment: str, inputs: Inputs, previous: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    trunk, tokens = model.transformer, inputs["input_ids"]
    embedded = trunk.wte(tokens)
    positions = inputs.get("position_ids")
    if positions is None:
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
    mask = create_causal_mask(
        config=model.config,
        inputs_embeds=embedded,
        attention_mask=inputs.get("attention_mask"),
        past_key_values=None,
        position_ids=positions,
    )
    return embedded + trunk.wpe(positions), mask
