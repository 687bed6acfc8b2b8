"""Weights in and out of a model whose tensors may be tied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from merge_gym.models.adapter import ModelAdapter


def build(adapter: ModelAdapter, config: PretrainedConfig) -> PreTrainedModel:
    """A model of this configuration with arbitrary weights; the random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        model = adapter.model_class()(config)
    if adapter.output_as_saved:  # an untied output matrix would untie the embeddings too
        model.set_input_embeddings(model.get_input_embeddings())
    return model


def own_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors of the state dict; of those that are tied, only the first."""
    seen: set[int] = set()
    own = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            own[name] = tensor.detach()
    return own


def tied_names(model: PreTrainedModel) -> dict[str, str]:
    """{name of a tensor that is tied to an earlier one: that one's name}."""
    first: dict[int, str] = {}
    tensors = model.state_dict(keep_vars=True).items()
    names = {name: first.setdefault(id(tensor), name) for name, tensor in tensors}
    return {name: other for name, other in names.items() if name != other}


def fill(
    model: PreTrainedModel, tensors: Mapping[str, Tensor], *, assign: bool = False
) -> set[str]:
    """Put `tensors`, as `own_tensors` names them, into `model`; tied ones follow.

    A tensor that the model lacks is left out: T5 keeps its position biases in first layers, which
    an empty segment has not.

    Args:
        model: is changed.
        tensors: by full name.
        assign: hold the given tensors themselves instead of copying their values.

    Returns: the names of the model's tensors that were not given.
    """
    own = own_tensors(model).keys()
    given = {name: tensor for name, tensor in tensors.items() if name in own}
    model.load_state_dict(given, strict=False, assign=assign)
    if assign:
        model.tie_weights()
    return own - given.keys()


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own report and progress bar."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
