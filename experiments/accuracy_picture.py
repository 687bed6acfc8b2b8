"""Every line of a run's table as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.glance import Line

COLOURS = {"bound": "k", "merge": "tab:blue", "found": "tab:green", "control": "0.6"}


def accuracy_figure(lines: Sequence[Line], title: str) -> Figure:
    """The mean over tasks, from the top to the bottom as in the table: a dot on the test split, a
    ring on the search split."""
    margin = 0.085 * max(len(line.label) for line in lines)
    figure = Figure(figsize=(margin + 4.5, 1.5 + 0.3 * len(lines)), dpi=110, layout="constrained")
    axes = figure.subplots()
    for row, line in enumerate(lines):
        search, test, colour = line.percent("search"), line.percent("test"), COLOURS[line.group]
        axes.plot([search, test], [row, row], color=colour, linewidth=1, alpha=0.5)
        axes.plot(search, row, "o", color=colour, markerfacecolor="w", markersize=7)
        axes.plot(test, row, "o", color=colour, markersize=7)
        axes.annotate(
            f"{test:.1f}",
            (max(search, test), row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color=colour,
            bbox={"facecolor": "w", "edgecolor": "none", "pad": 0.5},
        )
    axes.axvline(lines[0].percent("test"), color="k", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.92")
    axes.set_xlabel("mean metric × 100")
    for name, face in (("test split", "0.4"), ("search split", "w")):
        axes.plot([], [], "o", color="0.4", markerfacecolor=face, label=name)
    figure.legend(fontsize="small", loc="outside lower center", ncols=2, frameon=False)
    axes.set_title(title, loc="left", fontsize="medium")
    return figure
