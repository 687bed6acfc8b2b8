"""The pictures of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.recipe_picture import recipe_figure
from merge_gym.envs.rendering import map_figure, recipe_map
from merge_gym.files import replacing
from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Recipe
from merge_gym.studies.study import Trial


def learning_curve(
    raw: Sequence[float],
    smoothed: Sequence[float],
    marks: Mapping[str, float],
    window: int,
    title: str,
) -> Figure:
    """Rewards over the scored episodes.

    Args:
        raw: each episode's own reward (metric × 100 on its subset).
        smoothed: the reward that the agent saw.
        marks: {label: level} of horizontal lines, such as the best uniform merge.
        window: length in episodes of the running mean, one pass over the subsets.
        title: above it.
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
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xlabel("scored episode")
    axes.set_ylabel("mean metric × 100, search split")
    axes.grid(color="0.92")
    figure.legend(fontsize="small", loc="outside lower center", ncols=3, frameon=False)
    return figure


def progress_curve(
    trials: Sequence[Trial], full_cost: int, marks: Mapping[str, float], title: str
) -> Figure:
    """The best full score so far over what was spent.

    Args:
        trials: of a study, in order.
        full_cost: the cost of one full evaluation, the unit of the horizontal axis.
        marks: {label: level} of horizontal lines, such as the best uniform merge.
        title: above it.
    """
    figure = Figure(figsize=(8, 4.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    full = [trial for trial in trials if trial.subsets is None]
    spent = [trial.spent / full_cost for trial in full]
    scores = [100 * trial.mean for trial in full]
    axes.plot(spent, scores, ".", color="0.7", label="scored on the whole search split")
    best = list(accumulate(scores, max))
    ends = [*spent, trials[-1].spent / full_cost], [*best, *best[-1:]]
    axes.step(*ends, where="post", color="tab:orange", linewidth=2, label="best so far")
    for (label, level), style in zip(marks.items(), ("--", ":"), strict=False):
        axes.axhline(level, color="k", linestyle=style, lw=1, label=f"{label} ({level:.1f})")
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xlabel("full evaluations spent")
    axes.set_ylabel("mean metric × 100, search split")
    axes.grid(color="0.92")
    figure.legend(fontsize="small", loc="outside lower center", ncols=3, frameon=False)
    return figure


def found_picture(recipe: Recipe, bank: LayerBank, title: str) -> Figure:
    """A recipe: its merging map where its layers are candidates taken whole and nothing has a
    scale; otherwise layer by layer, with what stands there and how loud."""
    layers = [layer for _, layers in recipe.segments for layer in layers]
    plain = all(
        len(layer.parts) == 1
        and (layer.scale, layer.stream) == (1, 1)
        and layer.source in bank.candidates.sources
        for layer in layers
    )
    if plain:
        return map_figure(recipe_map(recipe, bank.candidates), bank.candidates, title=title)
    return recipe_figure(recipe, bank.candidates, title)


def save(figure: Figure, file: Path) -> None:
    """Write a PNG under a temporary name and rename it."""
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png")
