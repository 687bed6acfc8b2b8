"""The pictures of a library: its front on both axes of storage, and which tasks share what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from merge_gym.library import Library, chain
from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Source
from merge_gym.spaces.modular import Modular

MARKS = "os^vDP*X"


def front_figure(rows: Sequence[Any], title: str) -> Figure:
    """Test scores over models and over bytes; rows of one family are joined."""
    figure = Figure(figsize=(11, 4.8), dpi=110, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    families: dict[str, list[Any]] = {}
    for row in rows:
        families.setdefault(row.name.partition(",")[0], []).append(row)
    for number, (name, members) in enumerate(families.items()):
        heights = [100 * row.mean("test") for row in members]
        style: dict[str, Any] = {"label": name, "marker": MARKS[number % len(MARKS)]}
        line = "none" if name == "all merged" else "-" if name == "found" else ":"
        panels[0].plot([row.models for row in members], heights, linestyle=line, **style)
        panels[1].plot([row.bytes / 1000 for row in members], heights, linestyle=line, **style)
    panels[0].set_xlabel("storage in models (values)")
    panels[1].set_xlabel("storage in kB on disk, heads included")
    panels[1].set_xscale("log")
    panels[0].set_ylabel("mean metric × 100, test split")
    for axes in panels:
        axes.grid(color="0.92")
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        fontsize="small",
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure


def modules_figure(library: Library, bank: LayerBank, space: Modular, title: str) -> Figure:
    """Component by task; one colour a module of each component, grey where a task has its own."""
    shapes, tasks = bank.candidates.shapes, library.tasks
    of = {task: {m.place: m.source for m in chain(library.recipe(task), shapes)} for task in tasks}
    figure = Figure(figsize=(0.9 + 0.42 * len(space.places), 1.5 + 0.42 * len(tasks)), dpi=110)
    axes = figure.subplots()
    colours = [matplotlib.colormaps["Set2"](number)[:3] for number in range(8)]
    cells = np.ones((len(tasks), len(space.places), 3))
    for column, place in enumerate(space.places.values()):
        shared: list[Source] = []
        for line, task in enumerate(tasks):
            source = of[task][place]
            base = source.base or source
            if base.kind == "expert":
                cells[line, column] = 0.82
                continue
            shared += [base] * (base not in shared)
            cells[line, column] = colours[shared.index(base)]
            if source.base is not None:
                axes.text(column, line, "+", ha="center", va="center", fontsize=9)
    axes.imshow(cells, aspect="auto")
    axes.set_xticks(
        range(len(space.places)), list(space.places), rotation=60, ha="right", fontsize=7
    )
    axes.set_yticks(range(len(tasks)), tasks, fontsize=8)
    axes.set_xticks(np.arange(-0.5, len(space.places)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(tasks)), minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.set_title(
        f"{title}\ncoloured: shared, grey: the task's own, +: with a residual",
        loc="left",
        fontsize=8,
    )
    figure.set_layout_engine("constrained")
    return figure
