"""BERT, RoBERTa and DistilBERT for sequence classification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig
from transformers.masking_utils import create_bidirectional_mask

from merge_gym.models.adapter import Inputs, ModelAdapter, Stack, adapter, depth_field
from merge_gym.models.attention import attend_from


@dataclass(frozen=True)
class Kind:
    """What tells one family from the others."""

    model_class: str
    path: str
    head: tuple[str, ...]
    reads: tuple[str, ...]
    tail: Callable[[Any, Tensor], Tensor]
    last_layer: Callable[[Any, Tensor, Tensor | None], Tensor]


def _bert_last_layer(module: Any, hidden: Tensor, mask: Tensor | None) -> Tensor:
    attention = module.attention.self
    projections = (attention.query, attention.key, attention.value)
    heads, scaling = attention.num_attention_heads, attention.scaling
    read = attend_from(0, hidden, *projections, heads, scaling, mask)
    return module.feed_forward_chunk(module.attention.output(read, hidden[:, :1]))


def _distilbert_last_layer(module: Any, hidden: Tensor, mask: Tensor | None) -> Tensor:
    attention = module.attention
    projections = (attention.q_lin, attention.k_lin, attention.v_lin)
    read = attend_from(0, hidden, *projections, attention.n_heads, attention.scaling, mask)
    token = module.sa_layer_norm(attention.out_lin(read) + hidden[:, :1])
    return module.output_layer_norm(module.ffn(token) + token)


KINDS = {
    "bert": Kind(
        "BertForSequenceClassification",
        "bert.encoder.layer",
        ("bert.pooler.", "classifier."),
        ("input_ids", "token_type_ids", "position_ids"),
        lambda model, hidden: model.classifier(model.bert.pooler(hidden)),
        _bert_last_layer,
    ),
    "roberta": Kind(
        "RobertaForSequenceClassification",
        "roberta.encoder.layer",
        ("classifier.",),
        ("input_ids", "token_type_ids", "position_ids"),
        lambda model, hidden: model.classifier(hidden),
        _bert_last_layer,
    ),
    "distilbert": Kind(
        "DistilBertForSequenceClassification",
        "distilbert.transformer.layer",
        ("pre_classifier.", "classifier."),
        ("input_ids", "position_ids"),
        lambda model, hidden: model.classifier(torch.relu(model.pre_classifier(hidden[:, 0]))),
        _distilbert_last_layer,
    ),
}


@adapter(*KINDS)
def bert(config: PretrainedConfig) -> ModelAdapter:
    """One segment, `layers`; the head is all that follows the last layer, BERT's pooler included
    (RoBERTa and DistilBERT have such a dense layer in their classifiers). It reads the first token
    only."""
    kind = KINDS[config.model_type]

    def enter(
        model: Any, segment: str, inputs: Inputs, previous: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        read = {name: inputs[name] for name in kind.reads if name in inputs}
        hidden = model.base_model.embeddings(**read)
        mask = create_bidirectional_mask(
            config=model.config, inputs_embeds=hidden, attention_mask=inputs.get("attention_mask")
        )
        return hidden, mask

    depth = depth_field("num_hidden_layers")
    return ModelAdapter(
        stacks={"layers": Stack(kind.path, config.num_hidden_layers, depth)},
        head=kind.head,
        model_class=lambda: getattr(transformers, kind.model_class),
        enter=enter,
        layer=lambda module, hidden, mask: module(hidden, mask),
        tail=lambda model, hidden, inputs: kind.tail(model, hidden),
        last_layer=kind.last_layer,
    )
