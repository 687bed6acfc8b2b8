"""Output scales, folded into weights: whoever reads a merged layer sees ordinary tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from merge_gym.models import ModelAdapter
from merge_gym.recipe import Layer, Recipe


def check_scales(recipe: Recipe, adapter: ModelAdapter, family: str) -> None:
    """ValueError where the family cannot fold a scale of the recipe into its weights."""
    for _, layers in recipe.segments:
        for layer in layers:
            if layer.scale != 1 and not adapter.writes:
                raise ValueError(
                    f"layers of {family} have no scale: nobody has said which of their tensors "
                    f"write to the hidden states; leave scale at 1"
                )
            if layer.stream != 1 and not (adapter.writes or adapter.output_norm):
                raise ValueError(
                    f"the output of {family} layers cannot be scaled; leave stream at 1"
                )
            if layer.stream <= 0:
                raise ValueError(f"a stream's factor is greater than 0, got {layer.stream!r}")


def without_streams(recipe: Recipe, adapter: ModelAdapter) -> Recipe:
    """The recipe with factors of whole outputs turned into factors of branches.

    Where norms stand before the branches, a factor of all hidden states reaches later layers only
    through the share that their branches have in the sum: x ← s·x, then x + B(norm(x)), is
    s·(x + B(norm(x)) / s), and the norm after the last layer takes the common s away. So later
    branches are divided by the product of the factors before them; this is exact but for the ε in
    the norms. Where a norm stands at each layer's output it carries the factor itself (`fold`).
    """
    if adapter.output_norm:
        return recipe
    segments = []
    for segment, layers in recipe.segments:
        factor, folded = 1.0, []
        for layer in layers:
            folded.append(replace(layer, scale=layer.scale / factor, stream=1.0))
            factor *= layer.stream
        segments.append((segment, tuple(folded)))
    return replace(recipe, segments=tuple(segments))


def fold(layer: Layer, tensors: Mapping[str, Tensor], adapter: ModelAdapter) -> dict[str, Tensor]:
    """A layer's tensors with its scales multiplied in; those that change are new tensors."""
    factors = dict.fromkeys(adapter.writes, layer.scale) if layer.scale != 1 else {}
    if layer.stream != 1:
        factors |= dict.fromkeys(adapter.output_norm, layer.stream)
    return {
        name: tensor * factors[name] if name in factors else tensor
        for name, tensor in tensors.items()
    }
