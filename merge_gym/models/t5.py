"""T5 (also v1.1 and FLAN) and mT5: encoder and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from merge_gym.models.adapter import Inputs, ModelAdapter, Stack, adapter, depth_field


@dataclass(frozen=True)
class Context:
    """What a block reads beside its hidden states; the last two in the decoder only."""

    mask: Tensor | None
    position_bias: Tensor | None
    encoded: Tensor | None = None
    encoded_mask: Tensor | None = None


CLASSES = {"t5": "T5ForConditionalGeneration", "mt5": "MT5ForConditionalGeneration"}


@adapter(*CLASSES)
def t5(config: PretrainedConfig) -> ModelAdapter:
    """Two segments, `encoder` and `decoder`; nothing is a head: embeddings and output matrix are
    shared, and so are the position biases, which T5 keeps in the first block of each stack.

    In `tie_word_embeddings` transformers reads at most whether T5 scales its output. It ties the
    output matrix unless the files hold another one, as those of v1.1, FLAN and mT5 do."""
    decoder_size = config.num_decoder_layers
    return ModelAdapter(
        stacks={
            "encoder": Stack("encoder.block", config.num_layers, depth_field("num_layers")),
            "decoder": Stack("decoder.block", decoder_size, depth_field("num_decoder_layers")),
        },
        head=(),
        model_class=lambda: getattr(transformers, CLASSES[config.model_type]),
        enter=_enter,
        layer=_layer,
        tail=_tail,
        in_layers=("layer.0.SelfAttention.relative_attention_bias.weight",),
        components={
            "attention": ("layer.0.SelfAttention.", "layer.1.EncDecAttention."),
            "mlp": ("layer.1.DenseReluDense.", "layer.2.DenseReluDense."),
        },
        writes=(
            "layer.0.SelfAttention.o.weight",
            "layer.1.EncDecAttention.o.weight",
            "layer.1.DenseReluDense.wo.weight",
            "layer.2.DenseReluDense.wo.weight",
        ),
        final=("encoder.final_layer_norm.", "decoder.final_layer_norm.", "lm_head."),
        output_as_saved=True,
    )


def _enter(
    model: Any, segment: str, inputs: Inputs, previous: Tensor | None
) -> tuple[Tensor, Context]:
    stack = model.encoder if segment == "encoder" else model.decoder
    hidden = stack.embed_tokens(_tokens(model, segment, inputs))
    length = hidden.shape[1]
    bias = (
        stack.block[0].layer[0].SelfAttention.compute_bias(length, length) if stack.block else None
    )
    settings = {"config": stack.config, "inputs_embeds": hidden}
    mask = inputs.get("attention_mask")
    if segment == "encoder":
        return hidden, Context(create_bidirectional_mask(**settings, attention_mask=mask), bias)
    encoded = model.encoder.final_layer_norm(previous)
    causal = create_causal_mask(
        **settings, attention_mask=inputs.get("decoder_attention_mask"), past_key_values=None
    )
    across = create_bidirectional_mask(
        **settings, attention_mask=mask, encoder_hidden_states=encoded
    )
    return hidden, Context(causal, bias, encoded, across)


def _tokens(model: Any, segment: str, inputs: Inputs) -> Tensor:
    if segment == "encoder":
        return inputs["input_ids"]
    if "decoder_input_ids" in inputs:
        return inputs["decoder_input_ids"]
    return model.prepare_decoder_input_ids_from_labels(inputs["labels"])


def _layer(module: nn.Module, hidden: Tensor, context: Context) -> Tensor:
    return module(
        hidden, context.mask, context.position_bias, context.encoded, context.encoded_mask
    )[0]


def _tail(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
    hidden = model.decoder.final_layer_norm(hidden)
    if getattr(model.config, "scale_decoder_outputs", False):  # which mT5 has not
        hidden = hidden * model.model_dim**-0.5
    return model.lm_head(hidden)
