"""How the library sees an architecture."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from merge_gym.messages import taken_name

Inputs = Mapping[str, Tensor]
"""What a model is called with, by argument name."""

Tail = Callable[[Any, Tensor, Inputs], Tensor]
"""`(model, hidden, inputs)`, the last hidden states, to what is read from them."""

Resize = Callable[[PretrainedConfig, Sequence[int]], None]
"""Changes a configuration so that a segment is made of these layers of the original model."""


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


@dataclass(frozen=True)
class Stack:
    """Where the layers of one segment live.

    Attributes:
        path: the dotted name of their `nn.ModuleList`.
        size: how many there are.
        resize: writes another depth into a configuration, see `depth_field`.
    """

    path: str
    size: int
    resize: Resize


@dataclass(frozen=True)
class ModelAdapter:
    """One architecture, opened: `enter` each segment, run its layers, `tail` at the end.

    Attributes:
        stacks: where each segment's layers live, from the input to the output.
        head: prefixes of the tensors that make up the task head; none where all is shared.
        model_class: returns the transformers class that holds the model with its head.
        enter: `(model, segment, inputs, previous) -> (hidden, context)`: the hidden states at the
            foot of a segment and whatever else its layers read (masks, positions). `previous` are
            the last hidden states of the segment before, None for the first; `model` gives the
            shared parameters and holds at least one layer in each segment that is to be run.
        layer: `(module, hidden, context) -> hidden`: through one layer module.
        tail: `(model, hidden, inputs) -> logits`: the last hidden states through final norm and
            head; shape (batch, classes), or (batch, tokens, vocabulary) of a language model.
        last_layer: optional, `layer` computed only at the positions that `tail` reads, in order.
        features: optional, `(model, hidden, inputs) -> (batch, width)`: what the head's last linear
            layer `readout` reads, so that `tail` is `readout` of `features`; see `linear_tail`.
        readout: that layer's dotted name.
        positions: how many tokens the model can read, as far as it has learnt positions; None for
            no limit.
        opened_by: Python that opens an export in directory `{task}` without this library; None
            where an Auto class of transformers does.
        unsaved_prefix: what all tensor names begin with in memory but not in files (timm's).
        in_layers: tensors inside layers that are shared nevertheless, by their names there.
        components: what a layer is made of, `attention` and `mlp`: prefixes of the names of each
            one's tensors in the layer; whatever has none of them is `rest`. Empty where the family
            does not say, and layers are then taken whole.
        writes: names in the layer of the tensors (weights and biases) that write to the residual
            stream, attention's and mlp's last ones; times s they scale both branches by s. Empty
            where branches cannot be scaled so.
        output_norm: names in the layer of the weight and bias of the norm that its output passes
            through (BERT); empty where norms stand before the branches and the stream passes by.
        final: prefixes of the shared tensors that are read after the last layer only (final norm):
            the shared component `norm`; all other shared tensors are the `stem`.
        output_as_saved: whether the weights, not the configuration, say if the output matrix is
            tied to the embeddings (T5); encoder and decoder have the same embeddings either way.
    """

    stacks: Mapping[str, Stack]
    head: tuple[str, ...]
    model_class: Callable[[], type[PreTrainedModel]]
    enter: Callable[[Any, str, Inputs, Tensor | None], tuple[Tensor, Any]]
    layer: Callable[[nn.Module, Tensor, Any], Tensor]
    tail: Tail
    last_layer: Callable[[nn.Module, Tensor, Any], Tensor] | None = None
    features: Tail | None = None
    readout: str = ""
    positions: int | None = None
    opened_by: str | None = None
    unsaved_prefix: str = ""
    in_layers: tuple[str, ...] = ()
    components: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    output_norm: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    output_as_saved: bool = False

    @property
    def segments(self) -> dict[str, int]:
        """{segment name: its number of layers}, from the input to the output."""
        return {name: stack.size for name, stack in self.stacks.items()}

    def place(self, name: str) -> Place:
        """Where the tensor `name` of the state dict belongs."""
        for segment, stack in self.stacks.items():
            match = re.fullmatch(rf"{re.escape(stack.path)}\.(\d+)\.(.+)", name)
            if match and match[2] not in self.in_layers:
                return Place("layer", match[2], segment, int(match[1]))
        return Place("head" if name.startswith(self.head) else "shared", name)

    def component(self, name: str) -> str:
        """The component that tensor `name` of a layer belongs to: `attention`, `mlp` or `rest`."""
        of = (part for part, prefixes in self.components.items() if name.startswith(prefixes))
        return next(of, "rest")

    def shared_component(self, name: str) -> str:
        """The component that a shared tensor, by its full name, belongs to: `stem` or `norm`."""
        return "norm" if self.final and name.startswith(self.final) else "stem"

    def tensor_name(self, segment: str, position: int, name: str) -> str:
        """The full name of tensor `name` of the layer at `position` of `segment`."""
        return f"{self.stacks[segment].path}.{position}.{name}"

    def config(
        self, layers: Mapping[str, Sequence[int]], head: PretrainedConfig
    ) -> PretrainedConfig:
        """`head`'s configuration for a model whose segments are made of these layers (indices in
        the original model, in order; repeats allowed)."""
        config = copy.deepcopy(head)
        for segment, indices in layers.items():
            self.stacks[segment].resize(config, indices)
        return config

    def layers(self, model: nn.Module) -> dict[str, Sequence[nn.Module]]:
        """The layer modules of each segment of `model`."""
        return {
            name: cast(Sequence[nn.Module], model.get_submodule(stack.path))
            for name, stack in self.stacks.items()
        }


def depth_field(name: str) -> Resize:
    """A Resize for configurations that hold the depth in field `name`.

    Lists with an entry for each layer (`layer_types`, `no_rope_layers`, `attention_window` and
    their like) follow the layers, a backbone's `stage_names` their number.
    """

    def resize(config: PretrainedConfig, indices: Sequence[int]) -> None:
        depth = getattr(config, name)
        for entry, value in list(vars(config).items()):
            if _lists_layers(entry, value, depth):
                setattr(config, entry, [value[index] for index in indices])
        setattr(config, name, len(indices))
        if getattr(config, "attention_types", None):  # from which GPT-Neo writes attention_layers
            config.attention_types = [[config.attention_layers, 1]]
        if len(getattr(config, "stage_names", None) or ()) == depth + 1:
            config.stage_names = ["stem", *(f"stage{n}" for n in range(1, len(indices) + 1))]
            config.set_output_features_output_indices(None, None)

    return resize


def _lists_layers(entry: str, value: Any, depth: int) -> bool:
    """Whether a configuration's entry says something of each layer."""
    named = "layer" in entry or "attention" in entry
    flat = isinstance(value, list) and not any(isinstance(item, list) for item in value)
    return named and flat and len(value) == depth


def linear_tail(features: Tail, readout: str) -> Tail:
    """A `tail` that is the linear layer `readout` of `features`."""

    def tail(model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
        return model.get_submodule(readout)(features(model, hidden, inputs))

    return tail


def tensors_of(*modules: str) -> tuple[str, ...]:
    """The names of weight and bias of these modules."""
    return tuple(f"{module}.{kind}" for module in modules for kind in ("weight", "bias"))


Family = Callable[[PretrainedConfig], ModelAdapter]

ADAPTERS: dict[str, Family] = {}


def adapter(*model_types: str) -> Callable[[Family], Family]:
    """Register a function that opens these `model_type`s of a Hugging Face configuration."""

    def register(family: Family) -> Family:
        for taken in ADAPTERS.keys() & set(model_types):
            raise ValueError(taken_name("adapter", taken, ADAPTERS[taken]))
        ADAPTERS.update(dict.fromkeys(model_types, family))
        return family

    return register


def adapter_for(config: PretrainedConfig) -> ModelAdapter:
    """The adapter that opens models of this configuration; the generic one if none is registered.

    Raises ValueError where the generic one finds no repeated layers.
    """
    return ADAPTERS.get(config.model_type, ADAPTERS["*"])(config)
