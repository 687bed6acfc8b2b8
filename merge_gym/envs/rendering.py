"""A merging map as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from merge_gym.recipe import LAYER_COMPONENTS, WHOLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from merge_gym.recipe import Recipe, Source
    from merge_gym.spaces.candidates import Candidates

PIXELS = 100  # per inch of a figure


def write_map(
    merging_map: NDArray[np.float32], candidates: Candidates, cursor: int | None = None
) -> str:
    """The map as text: a row for each source, a column for each layer, `▼` above the cursor.

    Args:
        merging_map: counts, shape (N+M, L).
        candidates: names the rows and the columns.
        cursor: the layer that the next action decides on; None or L draws none.
    """
    names = candidates.names
    columns = _layer_names(candidates)
    width = max(map(len, names), default=0)
    largest = str(int(merging_map.max(initial=0)))
    cell = max(map(len, [largest, *columns])) + 1
    lines = [" " * width + "".join(name.rjust(cell) for name in columns)]
    if cursor is not None and cursor < len(columns):
        lines.insert(0, " " * width + " " * (cell * (cursor + 1) - 1) + "▼")
    for name, row in zip(names, merging_map, strict=True):
        cells = "".join((str(int(count)) if count else "·").rjust(cell) for count in row)
        lines.append(name.ljust(width) + cells)
    return "\n".join(lines)


def draw_map(
    merging_map: NDArray[np.float32], candidates: Candidates, cursor: int | None = None
) -> NDArray[np.uint8]:
    """The map as a picture, uint8 of shape (height, width, 3); arguments as for `write_map`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(map_figure(merging_map, candidates, cursor))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def map_figure(
    merging_map: NDArray[np.float32],
    candidates: Candidates,
    cursor: int | None = None,
    title: str = "merging map",
) -> Figure:
    """The map as a matplotlib figure: one row a source, one column a layer, its count in the cell;
    arguments as for `write_map`."""
    from matplotlib.figure import Figure

    rows, columns = merging_map.shape
    margin = 0.6 + 0.072 * max(map(len, candidates.names), default=0)
    size = (margin + 0.62 * columns, 1.5 + 0.42 * rows)
    figure = Figure(figsize=size, dpi=PIXELS, layout="constrained")
    axes = figure.subplots()
    axes.imshow(merging_map, cmap="Blues", vmin=0, vmax=max(2.0, float(merging_map.max())))
    axes.set_xticks(range(columns), _layer_names(candidates))
    axes.set_yticks(range(rows), candidates.names)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85")
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("layer, from input to output")
    axes.set_title(title, loc="left", fontsize="medium")
    for row, column in np.argwhere(merging_map):
        count = int(merging_map[row, column])
        dark = count > 0.6 * axes.images[0].get_clim()[1]
        axes.text(column, row, str(count), ha="center", va="center", color="w" if dark else "k")
    if cursor is not None and cursor < columns:
        axes.axvspan(cursor - 0.5, cursor + 0.5, fill=False, edgecolor="tab:orange", linewidth=2)
    return figure


def recipe_map(recipe: Recipe, candidates: Candidates) -> NDArray[np.float32]:
    """The merging map of a recipe whose sources are all in the bank, shape (N+M, L)."""
    starts = np.cumsum([0, *candidates.segments.values()])
    merging_map = np.zeros((len(candidates), starts[-1]), np.float32)
    for (_, layers), start in zip(recipe.segments, starts, strict=False):
        for layer in layers:
            merging_map[candidates.sources.index(layer.source), start + layer.index] += 1
    return merging_map


def recipe_figure(recipe: Recipe, candidates: Candidates, title: str) -> Figure:
    """Any recipe as a matplotlib figure: how much of each expert stands in each layer and component
    (its λ; 1 for an expert as it is; the operator's first letters where it is no sum of experts),
    and the scale of each layer that has one."""
    from matplotlib.figure import Figure

    layers = [layer for _, layers in recipe.segments for layer in layers]
    kinds = LAYER_COMPONENTS if any(len(layer.parts) > 1 for layer in layers) else (WHOLE,)
    experts = candidates.experts
    scaled = any(layer.scale != 1 for layer in layers)
    names = ["" if kind == WHOLE else kind for kind in kinds]
    height = len(kinds) * len(experts) + scaled
    width = 1.6 + 0.09 * max(len(f"{kind} {name}") for kind in names for name in experts)
    size = (width + 0.62 * max(len(layers), 4), 1.6 + 0.42 * height)
    figure = Figure(figsize=size, dpi=PIXELS, layout="constrained")
    axes = figure.subplots()
    values = np.full((height, len(layers)), np.nan)
    for column, layer in enumerate(layers):
        parts = dict(layer.parts)
        for place, kind in enumerate(kinds):
            source = parts.get(kind, layer.parts[0][1])
            shares = _shares(source, experts)
            for row, share in enumerate(shares or [None] * len(experts)):
                at = place * len(experts) + row
                text = source.name[:8] if share is None else f"{share:.2f}"
                values[at, column] = np.nan if share is None else share
                axes.text(column, at, text, ha="center", va="center", fontsize=7)
        if scaled:
            axes.text(
                column, height - 1, f"×{layer.scale:.2f}", ha="center", va="center", fontsize=7
            )
    axes.imshow(values, cmap="Blues", vmin=0, vmax=2.5, aspect="auto")
    axes.set_xticks(range(len(layers)), [str(layer.index) for layer in layers])
    rows = [f"{kind} {name}".strip() for kind in names for name in experts]
    axes.set_yticks(range(height), [*rows, *(["scale"] * scaled)])
    for edge in range(len(experts), height, len(experts)):
        axes.axhline(edge - 0.5, color="0.4", linewidth=0.8)
    axes.tick_params(length=0)
    axes.set_xlabel("layer, from input to output")
    axes.set_title(title, loc="left", fontsize="medium")
    return figure


def _shares(source: Source, experts: Sequence[str]) -> list[float] | None:
    """How much of each expert's task vector a source holds; None where it is no such sum."""
    if source.kind == "expert":
        return [float(name == source.name) for name in experts]
    weight = dict(source.parameters).get("weight")
    if source.name == "task_arithmetic" and not source.experts:
        return list(weight) if isinstance(weight, tuple) else [float(weight or 0)] * len(experts)
    return None


def _layer_names(candidates: Candidates) -> list[str]:
    """0, 1, … in a model of one segment; with the segment's initial before it in one of several."""
    several = len(candidates.segments) > 1
    return [
        f"{segment[0] if several else ''}{index}"
        for segment, size in candidates.segments.items()
        for index in range(size)
    ]
