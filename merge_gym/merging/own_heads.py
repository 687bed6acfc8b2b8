"""A recipe's layers in an ordinary transformers model, under an expert's own head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merge_gym.merging.bank import LayerBank
from merge_gym.models.weights import build, fill
from merge_gym.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def with_own_head(recipe: Recipe, bank: LayerBank, task: str) -> tuple[PreTrainedModel, set[str]]:
    """The whole model with the head that the task's expert has, and the names of those tensors of
    it that the expert lacks; their values are arbitrary.

    Args:
        recipe: as `LayerBank.resolve` gives it; whether it calibrates heads is of no matter.
        bank: where the layers come from.
        task: one of `suite.heads`.
    """
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
