"""The protocol by which the library sees an architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from merge_gym.messages import unknown_name


@dataclass(frozen=True)
class Place:
    """Where a tensor of a checkpoint belongs.

    Attributes:
        part: `layer` (decided layer by layer), `shared` (embeddings, final norm) or `head`.
        segment, index: which layer, for a tensor of one.
        name: the tensor's name within its layer, or its full name.
    """

    part: str
    name: str
    segment: str = ""
    index: int = -1


class ModelAdapter(Protocol):
    """One architecture, opened: `enter` each segment, run its layers, `tail` at the end.

    Attributes:
        segments: {segment name: its number of layers}, from the input to the output.
    """

    segments: Mapping[str, int]

    def __init__(self, config: PretrainedConfig) -> None: ...

    def place(self, name: str) -> Place:
        """Where the tensor `name` of the state dict belongs."""

    def tensor_name(self, segment: str, position: int, name: str) -> str:
        """The full name of tensor `name` of the layer at `position` of `segment`."""

    def config(self, depths: Mapping[str, int], head: PretrainedConfig) -> PretrainedConfig:
        """`head`'s configuration with the depth of each segment set."""

    def model_class(self) -> type[PreTrainedModel]:
        """The transformers class that holds the model with its head."""

    def layers(self, model: PreTrainedModel) -> dict[str, nn.ModuleList]:
        """The layer modules of each segment of `model`."""

    def enter(
        self,
        model: PreTrainedModel,
        segment: str,
        inputs: Mapping[str, Tensor],
        previous: Tensor | None,
    ) -> tuple[Tensor, Any]:
        """The hidden states at the foot of `segment`, and whatever else its layers read.

        Args:
            model: gives the shared parameters (the stem).
            segment: the segment to enter.
            inputs: what the model is called with.
            previous: the last hidden states of the segment before; None for the first.
        """

    def layer(self, module: nn.Module, hidden: Tensor, context: Any) -> Tensor:
        """Hidden states through one layer module; `context` is what `enter` returned beside."""

    def tail(self, model: PreTrainedModel, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The last hidden states to the head's logits, shape (batch, classes)."""


ADAPTERS: dict[str, type[ModelAdapter]] = {}

T = TypeVar("T", bound=type[Any])


def adapter(*model_types: str) -> Callable[[T], T]:
    """Register a ModelAdapter for these `model_type`s of a Hugging Face configuration."""

    def register(cls: T) -> T:
        ADAPTERS.update(dict.fromkeys(model_types, cls))
        return cls

    return register


def adapter_for(config: PretrainedConfig) -> ModelAdapter:
    """The adapter that opens models of this configuration; ValueError if there is none."""
    if config.model_type not in ADAPTERS:
        raise ValueError(unknown_name("model type", config.model_type, ADAPTERS))
    return ADAPTERS[config.model_type](config)
