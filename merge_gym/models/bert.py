"""BERT, RoBERTa (XLM-R and CamemBERT too) and DistilBERT for sequence classification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig
from transformers.masking_utils import create_bidirectional_mask

from merge_gym.models.adapter import (
    Inputs,
    ModelAdapter,
    Stack,
    Tail,
    adapter,
    depth_field,
    linear_tail,
    tensors_of,
)
from merge_gym.models.attention import attend_from


@dataclass(frozen=True)
class Kind:
    """What tells one family from the others."""

    model_class: str
    path: str
    head: tuple[str, ...]
    reads: tuple[str, ...]
    features: Tail
    readout: str
    last_layer: Callable[[Any, Tensor, Tensor | None], Tensor]
    components: Mapping[str, tuple[str, ...]]
    writes: tuple[str, ...]
    output_norm: str
    after_padding: bool = False
    """Whether positions are counted from the padding token's number on, as in fairseq."""


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


def _bert_features(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
    return model.bert.pooler(hidden)


def _roberta_features(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
    return torch.tanh(model.classifier.dense(hidden[:, 0]))


def _distilbert_features(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
    return torch.relu(model.pre_classifier(hidden[:, 0]))


BERT = Kind(
    model_class="BertForSequenceClassification",
    path="bert.encoder.layer",
    head=("bert.pooler.", "classifier."),
    reads=("input_ids", "token_type_ids", "position_ids"),
    features=_bert_features,
    readout="classifier",
    last_layer=_bert_last_layer,
    components={
        "attention": ("attention.self.", "attention.output.dense."),
        "mlp": ("intermediate.", "output.dense."),
    },
    writes=tensors_of("attention.output.dense", "output.dense"),
    output_norm="output.LayerNorm",
)
ROBERTA = replace(
    BERT,
    model_class="RobertaForSequenceClassification",
    path="roberta.encoder.layer",
    head=("classifier.",),
    features=_roberta_features,
    readout="classifier.out_proj",
    after_padding=True,
)
KINDS = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": replace(ROBERTA, model_class="XLMRobertaForSequenceClassification"),
    "camembert": replace(ROBERTA, model_class="CamembertForSequenceClassification"),
    "distilbert": Kind(
        model_class="DistilBertForSequenceClassification",
        path="distilbert.transformer.layer",
        head=("pre_classifier.", "classifier."),
        reads=("input_ids", "position_ids"),
        features=_distilbert_features,
        readout="classifier",
        last_layer=_distilbert_last_layer,
        components={"attention": ("attention.",), "mlp": ("ffn.",)},
        writes=tensors_of("attention.out_lin", "ffn.lin2"),
        output_norm="output_layer_norm",
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
    skipped = config.pad_token_id + 1 if kind.after_padding else 0
    return ModelAdapter(
        stacks={"layers": Stack(kind.path, config.num_hidden_layers, depth)},
        head=kind.head,
        model_class=lambda: getattr(transformers, kind.model_class),
        enter=enter,
        layer=lambda module, hidden, mask: module(hidden, mask),
        tail=linear_tail(kind.features, kind.readout),
        last_layer=kind.last_layer,
        features=kind.features,
        readout=kind.readout,
        components=kind.components,
        writes=kind.writes,
        output_norm=tensors_of(kind.output_norm),
        positions=config.max_position_embeddings - skipped,
    )
