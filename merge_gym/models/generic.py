"""Models of any other architecture: the repeated layers are found by their shapes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import Cache, PretrainedConfig, PreTrainedModel

from merge_gym.models.adapter import ADAPTERS, Inputs, ModelAdapter, Stack, adapter, depth_field

logger = logging.getLogger(__name__)


@adapter("*")
def generic(config: PretrainedConfig) -> ModelAdapter:
    """One segment, `layers`: the longest list of like-shaped modules. Embeddings and final norms
    are shared; what lies outside the base model is the head, unless it is a language model's, and
    so is the base model's pooler.

    The choice is logged as a warning. Stem and tail are run through the model's own `forward` with
    the layers taken out, so the family's own adapter, where there is one, is faster.

    Raises ValueError where no such list is found, no field of the configuration sets its length,
    other tensors change with it, or the layers are of several kinds (`layer_types`), which needs an
    adapter of its own.
    """
    _check_one_kind(config)
    model_class = _model_class(config)
    with torch.device("meta"):
        model = model_class(config)
    path, size = _longest_list(model)
    name = _depth_field(config, model_class, path, size)
    head = _head(model)
    _say(
        f"no adapter for model type {config.model_type!r}: taking the {size} modules in {path} as "
        f"its layers, their number from {name}, and {', '.join(head) or 'nothing'} as the task head"
    )
    through = Through(path)
    return ModelAdapter(
        stacks={"layers": Stack(path, size, depth_field(name))},
        head=head,
        model_class=lambda: model_class,
        enter=through.enter,
        layer=through.layer,
        tail=through.tail,
        positions=_positions(config, model),
    )


@cache
def _say(choice: str) -> None:
    """Log a choice, once for all checkpoints that it is made for."""
    logger.warning(choice)


def _model_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    name = (config.architectures or [""])[0]
    if config.model_type == "timm_wrapper":
        raise ValueError(
            f"timm's {config.architecture} is no VisionTransformer of timm, the only kind that is "
            f"opened"
        )
    if not hasattr(transformers, name or " "):
        raise ValueError(
            f"config.json names no class of transformers in its architectures, got {name!r}"
        )
    model_class = getattr(transformers, name)
    if model_class.config_class is not type(config):
        raise ValueError(
            f"config.json says model type {config.model_type!r}, which {name} is not made from; "
            f"families with an adapter: {', '.join(sorted(ADAPTERS))}"
        )
    return model_class


def _check_one_kind(config: PretrainedConfig) -> None:
    for name, value in config.to_dict().items():
        if name.endswith("layer_types") and isinstance(value, list) and len(set(value)) > 1:
            raise ValueError(
                f"models of type {config.model_type!r} with layers of several kinds "
                f"({name}: {', '.join(sorted(set(value)))}) need an adapter of their own"
            )


def _longest_list(model: nn.Module) -> tuple[str, int]:
    lists = {
        path: len(module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        and len(module) > 1
        and not any(part.isdigit() for part in path.split("."))
        and _alike(module)
    }
    if not lists:
        raise ValueError(
            f"{type(model).__name__} has no nn.ModuleList of like-shaped layers, so there is "
            f"nothing to choose layer by layer"
        )
    path = max(lists, key=lists.__getitem__)
    return path, lists[path]


def _alike(modules: nn.ModuleList | nn.Sequential) -> bool:
    shapes = [
        {name: tensor.shape for name, tensor in module.state_dict().items()} for module in modules
    ]
    return bool(shapes[0]) and all(shape == shapes[0] for shape in shapes)


def _depth_field(
    config: PretrainedConfig, model_class: type[PreTrainedModel], path: str, size: int
) -> str:
    """The field that makes one layer more when it is raised by one."""
    for name, value in config.to_dict().items():
        if value == size and any(word in name for word in ("layer", "depth", "block")):
            longer = copy.deepcopy(config)
            depth_field(name)(longer, [*range(size), 0])
            with torch.device("meta"):
                if len((model := model_class(longer)).get_submodule(path)) == size + 1:
                    _check_others(model_class(config), model, path)
                    return name
    raise ValueError(f"no field of the configuration sets the number of layers in {path}")


def _check_others(model: nn.Module, longer: nn.Module, path: str) -> None:
    """ValueError where more than the layers in `path` changes with their number."""
    ours, theirs = (
        {name: x.shape for name, x in each.state_dict().items() if not name.startswith(f"{path}.")}
        for each in (model, longer)
    )
    changed = [name for name in theirs if theirs[name] != ours.get(name)]
    if changed:
        raise ValueError(
            f"{type(model).__name__} holds {', '.join(changed[:2])} beside its layers in {path}, "
            f"which change with their number: it needs an adapter of its own"
        )


def _head(model: PreTrainedModel) -> tuple[str, ...]:
    if model.get_output_embeddings() is not None or model.base_model is model:
        return ()
    prefix = model.base_model_prefix
    pooler = [f"{prefix}.pooler."] if getattr(model.base_model, "pooler", None) else []
    return (*pooler, *(f"{name}." for name, _ in model.named_children() if name != prefix))


def _positions(config: PretrainedConfig, model: nn.Module) -> int | None:
    """Embeddings of positions that leave one out for padding are counted from there on."""
    for name, module in model.named_modules():
        padding = module.padding_idx if isinstance(module, nn.Embedding) else None
        if padding is not None and "position" in name:
            return module.num_embeddings - padding - 1
    return getattr(config, "max_position_embeddings", None)


class _Stand(nn.Module):
    """Stands where the layers stood: notes what the first is called with, returns `result`."""

    def __init__(self, original: nn.Module, result: Tensor | None) -> None:
        super().__init__()
        self.original, self.result = original, result
        self.call: tuple[Tensor, tuple[Any, ...], dict[str, Any]] | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("original"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not args:
            args = (kwargs.pop("hidden_states"),)
        hidden = args[0] if self.result is None else self.result
        if self.call is None:
            rest = tuple(None if isinstance(value, Cache) else value for value in args[1:])
            named = {k: None if isinstance(v, Cache) else v for k, v in kwargs.items()}
            self.call = (args[0], rest, named)
            self.output = self.original(args[0], *rest, **named)
        if isinstance(self.output, tuple | list):
            return type(self.output)((hidden, *self.output[1:]))
        return hidden


@dataclass(frozen=True)
class Through:
    """Enter and tail by way of the model's own `forward`."""

    path: str

    def enter(
        self, model: Any, segment: str, inputs: Inputs, previous: Tensor | None
    ) -> tuple[Tensor, Any]:
        with self._stand(model, None) as stand:
            model(**inputs)
        assert stand.call is not None, f"{type(model).__name__} runs without its layers"
        hidden, rest, named = stand.call
        return hidden, (rest, named)

    def layer(self, module: nn.Module, hidden: Tensor, context: Any) -> Tensor:
        rest, named = context
        output = module(hidden, *rest, **named)
        return output[0] if isinstance(output, tuple | list) else output

    def tail(self, model: Any, hidden: Tensor, inputs: Inputs) -> Tensor:
        with self._stand(model, hidden):
            return model(**inputs).logits

    @contextmanager
    def _stand(self, model: nn.Module, result: Tensor | None) -> Iterator[_Stand]:
        layers: Any = model.get_submodule(self.path)
        stand = _Stand(layers[0], result)
        stands = [stand] * len(layers)
        sequential = isinstance(layers, nn.Sequential)
        model.set_submodule(
            self.path, nn.Sequential(*stands) if sequential else nn.ModuleList(stands)
        )
        try:
            yield stand
        finally:
            model.set_submodule(self.path, layers)
