"""The pictures of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from merge_gym.envs.rendering import map_figure, recipe_map
from merge_gym.files import replacing
from merge_gym.recipe import Recipe
from merge_gym.spaces.candidates import Candidates


def learning_curve(
    raw: Sequence[float], smoothed: Sequence[float], marks: Mapping[str, float], window: int
) -> Figure:
    """Rewards over the scored episodes.

    Args:
        raw: each episode's own reward (metric × 100 on its subset).
        smoothed: the reward that the agent saw.
        marks: {label: level} of horizontal lines, such as the best uniform merge.
        window: length in episodes of the running mean, one pass over the subsets.
    """
    figure = Figure(figsize=(8, 4.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    episodes = np.arange(1, len(raw) + 1)
    axes.plot(episodes, raw, ".", color="0.75", markersize=3, label="on the episode's subset")
    axes.plot(
        episodes, smoothed, color="tab:blue", linewidth=0.8, alpha=0.6, label="as seen by the agent"
    )
    if len(raw) >= window:
        means = np.convolve(raw, np.ones(window) / window, "valid")
        axes.plot(
            episodes[window - 1 :],
            means,
            color="tab:orange",
            linewidth=2,
            label=f"mean of the last {window}",
        )
    for (label, level), style in zip(marks.items(), ("--", "-", ":"), strict=False):
        axes.axhline(level, color="k", linestyle=style, lw=1, label=f"{label} ({level:.1f})")
    axes.set_xlabel("scored episode")
    axes.set_ylabel("mean metric × 100, search split")
    axes.grid(color="0.92")
    figure.legend(fontsize="small", loc="outside lower center", ncols=3, frameon=False)
    return figure


def found_map(recipe: Recipe, bank: Candidates, title: str) -> Figure:
    """The merging map of a recipe."""
    return map_figure(recipe_map(recipe, bank), bank, title=title)


def save(figure: Figure, file: Path) -> None:
    """Write a PNG under a temporary name and rename it."""
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png")
