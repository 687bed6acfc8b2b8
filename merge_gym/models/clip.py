"""CLIP vision towers with a zero-shot head: the text features of a task's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoTokenizer, CLIPModel, CLIPVisionModelWithProjection, PretrainedConfig
from transformers.modeling_outputs import ImageClassifierOutput

from merge_gym.models.adapter import (
    Inputs,
    ModelAdapter,
    Stack,
    adapter,
    depth_field,
    tensors_of,
)
from merge_gym.models.files import copy_processor, local_directory

OPENED_BY = """\
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import CLIPVisionModelWithProjection

tower = CLIPVisionModelWithProjection.from_pretrained("{task}")
text_features = load_file("{task}/model.safetensors")["zero_shot.weight"]
logits = normalize(tower(pixel_values).image_embeds) @ text_features.T"""


class CLIPZeroShotClassifier(CLIPVisionModelWithProjection):
    """A vision tower whose logits are scaled cosines to the text features in `zero_shot`.

    Its checkpoints are those of `CLIPVisionModelWithProjection` and one tensor more,
    `zero_shot.weight`, shape (classes, projection), which holds exp(logit_scale) · text features.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.zero_shot = nn.Linear(config.projection_dim, config.num_labels, bias=False)
        self.post_init()

    def forward(self, pixel_values: Tensor, **options: Any) -> ImageClassifierOutput:
        """Logits of shape (batch, classes)."""
        features = super().forward(pixel_values, **options).image_embeds
        return ImageClassifierOutput(logits=self.zero_shot(normalize(features)))


@adapter("clip", "clip_vision_model")
def clip(config: PretrainedConfig) -> ModelAdapter:
    """One segment, `layers`; the head is `zero_shot`, written by `write_zero_shot`."""
    depth = depth_field("num_hidden_layers")
    return ModelAdapter(
        stacks={"layers": Stack("vision_model.encoder.layers", config.num_hidden_layers, depth)},
        head=("zero_shot.",),
        model_class=lambda: CLIPZeroShotClassifier,
        enter=_enter,
        layer=lambda module, hidden, context: module(hidden, None),
        tail=_tail,
        opened_by=OPENED_BY,
        components={"attention": ("self_attn.",), "mlp": ("mlp.",)},
        writes=tensors_of("self_attn.out_proj", "mlp.fc2"),
        final=("vision_model.post_layernorm.", "visual_projection."),
    )


def _enter(
    model: Any, segment: str, inputs: Inputs, previous: Tensor | None
) -> tuple[Tensor, None]:
    tower = model.vision_model
    return tower.pre_layrnorm(tower.embeddings(inputs["pixel_values"])), None


def _tail(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
    pooled = model.vision_model.post_layernorm(hidden[:, 0])
    return model.zero_shot(normalize(model.visual_projection(pooled)))


@torch.inference_mode()
def write_zero_shot(
    tower: str, text: str, prompts: Mapping[str, Sequence[str]], directory: str | Path
) -> Path:
    """Write a vision tower together with the zero-shot head of a task, ready to be an expert.

    A class's feature is the mean over its prompts of the text tower's unit features, made unit
    again (Radford et al. 2021, arXiv:2103.00020, section 3.1.4).

    Args:
        tower: checkpoint whose vision tower is taken.
        text: CLIP checkpoint that gives text tower, tokenizer and logit scale.
        prompts: {class: sentences such as "a photo of a dog."}, in the order of the labels.
        directory: where to write.

    Returns: the directory.
    """
    clip_model = CLIPModel.from_pretrained(text, use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(text)
    features = []
    for sentences in prompts.values():
        tokens = tokenizer(list(sentences), padding=True, return_tensors="pt")
        embedded = normalize(clip_model.get_text_features(**tokens).pooler_output)
        features.append(normalize(embedded.mean(0), dim=0))
    model = CLIPZeroShotClassifier.from_pretrained(
        tower, use_safetensors=True, id2label=dict(enumerate(prompts))
    )
    model.zero_shot.weight.copy_(clip_model.logit_scale.exp() * torch.stack(features))
    model.save_pretrained(directory)
    copy_processor(local_directory(tower), Path(directory))
    return Path(directory)
