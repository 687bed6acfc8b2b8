"""A recipe put together as an ordinary transformers model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merge_gym.merging.bank import LayerBank
from merge_gym.models.weights import build, fill
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
    """The whole model, and the names of those tensors of its head that the expert lacks; their
    values are arbitrary."""
    recipe = bank.resolve(recipe)
    adapter, expert = bank.suite.adapter, bank.suite.heads[task]
    taken = {segment: [layer.index for layer in layers] for segment, layers in recipe.segments}
    model = build(adapter, adapter.config(taken, head=expert.config))
    tensors = {**bank.shared_tensors(recipe.shared), **expert.head}
    for segment, layers in recipe.segments:
        for position, layer in enumerate(layers):
            for name, tensor in bank.layer(segment, layer).items():
                tensors[adapter.tensor_name(segment, position, name)] = tensor
    absent = fill(model, tensors)
    missing = {name for name in absent if bank.suite.tasks or adapter.place(name).part != "head"}
    if missing:
        raise ValueError(f"the bank holds no {', '.join(sorted(missing))} for task {task!r}")
    return model.eval(), absent
