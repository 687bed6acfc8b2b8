"""A recipe put together as an ordinary transformers model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from merge_gym.merging.bank import LayerBank
from merge_gym.merging.heads import calibrated_readout
from merge_gym.merging.own_heads import with_own_head
from merge_gym.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def assemble(recipe: Recipe, bank: LayerBank, task: str) -> PreTrainedModel:
    """Build the merged model with the head of `task`, in float32 and evaluation mode.

    The model owns its weights: changing it changes neither the bank nor another model.

    Args:
        recipe: what to build.
        bank: where the layers come from.
        task: one of `suite.heads`. Where a suite has no tasks, that is an expert, and of one that
            has no complete head the model is the architecture's trunk (`base_model`).

    Raises ValueError for a recipe of another suite.
    """
    model, absent = put_together(recipe, bank, task)
    return model.base_model if absent else model


def put_together(recipe: Recipe, bank: LayerBank, task: str) -> tuple[PreTrainedModel, set[str]]:
    """The whole model, its head calibrated if the recipe says so, and the names of those tensors of
    its head that the expert lacks; their values are arbitrary."""
    recipe = bank.resolve(recipe)
    model, absent = with_own_head(recipe, bank, task)
    if recipe.heads is not None:
        readout = calibrated_readout(recipe, bank, task)
        layer = model.get_submodule(bank.suite.adapter.readout)
        assert isinstance(layer, nn.Linear)
        with torch.no_grad():
            layer.weight.copy_(readout.weight)
            if readout.bias is not None:
                layer.bias.copy_(readout.bias)
    return model, absent
