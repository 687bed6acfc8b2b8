"""A merging map as text and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from merge_gym.recipe import Recipe
    from merge_gym.spaces.candidates import Candidates

PIXELS = 100  # per inch of a figure
LETTER = 0.09  # inches, of a wide one


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
    labels = 0.6 + LETTER * max(map(len, candidates.names), default=0)
    width = max(labels + 0.62 * columns, 0.3 + LETTER * len(title))
    figure = Figure(figsize=(width, 1.5 + 0.42 * rows), dpi=PIXELS, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    axes = figure.subplots()
    axes.imshow(merging_map, cmap="Blues", vmin=0, vmax=max(2.0, float(merging_map.max())))
    axes.set_xticks(range(columns), _layer_names(candidates))
    axes.set_yticks(range(rows), candidates.names)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85")
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("layer, from input to output")
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


def _layer_names(candidates: Candidates) -> list[str]:
    """0, 1, … in a model of one segment; with the segment's initial before it in one of several."""
    several = len(candidates.segments) > 1
    return [
        f"{segment[0] if several else ''}{index}"
        for segment, size in candidates.segments.items()
        for index in range(size)
    ]
