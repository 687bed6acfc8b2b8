"""A recipe put together as an ordinary transformers model."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from merge_gym.bank import LayerBank
from merge_gym.recipe import Recipe


def assemble(recipe: Recipe, bank: LayerBank, task: str) -> PreTrainedModel:
    """Build the merged model with the head of `task`, in float32 and evaluation mode.

    The model owns its weights: changing it changes neither the bank nor another model.

    Raises ValueError for a recipe of another suite.
    """
    bank.check(recipe)
    adapter = bank.suite.adapter
    expert = bank.suite.experts[bank.suite.tasks[task].expert]
    depths = {segment: len(layers) for segment, layers in recipe.segments}
    with torch.random.fork_rng(devices=[]):
        model = adapter.model_class()(adapter.config(depths, head=expert.config))
    tensors = {**bank.shared_tensors(recipe.shared), **expert.head}
    for segment, layers in recipe.segments:
        for position, layer in enumerate(layers):
            for name, tensor in bank.layer(layer.source, segment, layer.index).items():
                tensors[adapter.tensor_name(segment, position, name)] = tensor
    model.load_state_dict(tensors)
    return model.eval()
