"""A recipe put together as an ordinary transformers model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merge_gym.bank import LayerBank
from merge_gym.models.weights import build, fill
from merge_gym.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def assemble(recipe: Recipe, bank: LayerBank, task: str) -> PreTrainedModel:
    """Build the merged model with the head of `task`, in float32 and evaluation mode.

    The model owns its weights: changing it changes neither the bank nor another model.

    Raises ValueError for a recipe of another suite.
    """
    bank.check(recipe)
    adapter = bank.suite.adapter
    expert = bank.suite.experts[bank.suite.tasks[task].expert]
    taken = {segment: [layer.index for layer in layers] for segment, layers in recipe.segments}
    model = build(adapter, adapter.config(taken, head=expert.config))
    tensors = {**bank.shared_tensors(recipe.shared), **expert.head}
    for segment, layers in recipe.segments:
        for position, layer in enumerate(layers):
            for name, tensor in bank.layer(layer.source, segment, layer.index).items():
                tensors[adapter.tensor_name(segment, position, name)] = tensor
    if missing := fill(model, tensors):
        raise ValueError(f"the bank holds no {', '.join(sorted(missing))} for task {task!r}")
    return model.eval()
