"""Vision Transformers of transformers (ViT, DeiT) with a classification head."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, ViTForImageClassification

from merge_gym.models.adapter import Place, adapter

_LAYER = re.compile(r"vit\.layers\.(\d+)\.(.+)")


@adapter("vit")
class ViTAdapter:
    """One segment, `layers`; the head is `classifier` on the class token."""

    def __init__(self, config: PretrainedConfig) -> None:
        self.segments = {"layers": config.num_hidden_layers}

    def place(self, name: str) -> Place:
        if match := _LAYER.fullmatch(name):
            return Place("layer", match[2], "layers", int(match[1]))
        return Place("head" if name.startswith("classifier.") else "shared", name)

    def tensor_name(self, segment: str, position: int, name: str) -> str:
        return f"vit.layers.{position}.{name}"

    def config(self, depths: Mapping[str, int], head: PretrainedConfig) -> PretrainedConfig:
        config = copy.deepcopy(head)
        config.num_hidden_layers = depths["layers"]
        return config

    def model_class(self) -> type[PreTrainedModel]:
        return ViTForImageClassification

    def layers(self, model: PreTrainedModel) -> dict[str, nn.ModuleList]:
        return {"layers": model.vit.layers}

    def enter(
        self,
        model: PreTrainedModel,
        segment: str,
        inputs: Mapping[str, Tensor],
        previous: Tensor | None,
    ) -> tuple[Tensor, None]:
        return model.vit.embeddings(inputs["pixel_values"]), None

    def layer(self, module: nn.Module, hidden: Tensor, context: None) -> Tensor:
        return module(hidden, None)

    def tail(self, model: PreTrainedModel, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        return model.classifier(model.vit.layernorm(hidden)[:, 0])
