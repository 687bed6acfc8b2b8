"""A recipe as a picture: what stands at each of its layers, and how loud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np
from matplotlib.figure import Figure

from merge_gym.recipe import LAYER_COMPONENTS, WHOLE, Layer, Parts, Recipe, Source
from merge_gym.spaces.candidates import Candidates

CELL = (0.44, 0.34)  # inches
CHARACTER = 0.088  # of a label's size, at most
SMALL = 7


@dataclass(frozen=True)
class Column:
    """What is drawn above one another: a layer, or what is shared.

    Attributes:
        label: below it.
        parts: its sources.
        layer: None of what is shared.
    """

    label: str
    parts: Parts
    layer: Layer | None = None

    def source(self, component: str) -> Source:
        """The source of one component."""
        return dict(self.parts).get(component, self.parts[0][1])


@dataclass(frozen=True)
class Row:
    """What is drawn beside one another.

    Attributes:
        label: left of it.
        values: one for each column, or NaN.
        texts: what is written there.
        factors: whether values are factors, of which 1 changes nothing, and not shares.
    """

    label: str
    values: list[float]
    texts: list[str]
    factors: bool = False


def recipe_figure(recipe: Recipe, candidates: Candidates, title: str) -> Figure:
    """Any recipe: its layers as columns, in the order in which tokens pass through them.

    Where they are candidates taken whole, a row for each candidate says where it stands. Otherwise
    a row for each component and expert holds the expert's λ (1 for an expert as it is), or a letter
    where the source has none, with stem and norm where they are decided. Rows of factors follow,
    where there are such: of branches (scale) and of whole outputs.
    """
    columns = _columns(recipe, candidates)
    letters = _letters(columns, candidates)
    taken = all(
        len(column.parts) == 1 and column.parts[0][1] in candidates.sources for column in columns
    )
    rows = _taken(columns, candidates) if taken else _mixed(columns, candidates, letters)
    named = () if taken else letters.items()
    about = f"layer, from input to output: {recipe.depth}, of the experts' {candidates.depth}"
    below = [about, *(f"{letter}  {name}" for name, letter in named)]
    return _figure([*rows, *_factors(columns)], columns, title, below)


def _columns(recipe: Recipe, candidates: Candidates) -> list[Column]:
    several = len(recipe.segments) > 1
    columns = [
        Column(f"{segment[0] if several else ''}{layer.index}", layer.parts, layer)
        for segment, layers in recipe.segments
        for layer in layers
    ]
    if recipe.shared == candidates.shared:
        return columns
    ends = [
        Column("shared" if component == WHOLE else component, ((WHOLE, source),))
        for component, source in recipe.shared
    ]
    return [*ends[:1], *columns, *ends[1:]]


def _taken(columns: Sequence[Column], candidates: Candidates) -> Iterator[Row]:
    for name, source in zip(candidates.names, candidates.sources, strict=True):
        stands = [column.parts[0][1] == source for column in columns]
        yield Row(name, [1.0 if here else np.nan for here in stands], [""] * len(columns))


def _mixed(
    columns: Sequence[Column], candidates: Candidates, letters: dict[str, str]
) -> Iterator[Row]:
    apart = any(len(column.parts) > 1 for column in columns)
    for component in LAYER_COMPONENTS if apart else (WHOLE,):
        sources = [column.source(component) for column in columns]
        shares = [_shares(source, candidates) for source in sources]
        for place, expert in enumerate(candidates.experts):
            values = [np.nan if share is None else share[place] for share in shares]
            texts = [
                letters[_name(source, candidates)] if np.isnan(value) else f"{value:.2f}"
                for source, value in zip(sources, values, strict=True)
            ]
            yield Row(f"{component} {expert}" if apart else expert, values, texts)


def _factors(columns: Sequence[Column]) -> Iterator[Row]:
    layers = [column.layer for column in columns]
    given = {
        "scale": [np.nan if layer is None else layer.scale for layer in layers],
        "output": [np.nan if layer is None else layer.stream for layer in layers],
    }
    for label, values in given.items():
        if any(value != 1 for value in values if not np.isnan(value)):
            texts = ["" if np.isnan(value) else f"×{value:.2f}" for value in values]
            yield Row(label, values, texts, factors=True)


def _shares(source: Source, candidates: Candidates) -> tuple[float, ...] | None:
    """How much of each expert's task vector a source holds, before signs are elected or entries
    dropped; None where nothing says."""
    given = dict(source.parameters).get("weight")
    own = given if isinstance(given, tuple) and not source.experts else None
    return candidates.weights(source) or own


def _letters(columns: Sequence[Column], candidates: Candidates) -> dict[str, str]:
    """A letter for each source, by name, that is written as such."""
    sources = (source for column in columns for _, source in column.parts)
    plain = (source for source in sources if _shares(source, candidates) is None)
    names = dict.fromkeys(_name(source, candidates) for source in plain)
    return {name: ascii_uppercase[place % len(ascii_uppercase)] for place, name in enumerate(names)}


def _name(source: Source, candidates: Candidates) -> str:
    return candidates.label(source) if source in candidates.sources else source.name


def _figure(
    rows: Sequence[Row], columns: Sequence[Column], title: str, below: Sequence[str]
) -> Figure:
    margin = 0.5 + CHARACTER * max(len(row.label) for row in rows)
    needed = CHARACTER * max(map(len, [title, *below]))
    width = margin + max(CELL[0] * len(columns), needed)
    height = 0.8 + 0.2 * len(below) + CELL[1] * len(rows)
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    axes = figure.subplots()
    for factors, colours, low, high in ((False, "Blues", 0.0, 2.0), (True, "PuOr", 0.0, 2.0)):
        shown = [row.values if row.factors == factors else [np.nan] * len(columns) for row in rows]
        values = np.array(shown).reshape(len(rows), len(columns))
        axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    for at, row in enumerate(rows):
        for column, text in enumerate(row.texts):
            dark = row.values[column] > (1.7 if row.factors else 1.2)
            colour = "w" if dark else "k"
            axes.text(column, at, text, ha="center", va="center", fontsize=SMALL, color=colour)
    size = "medium" if max((len(column.label) for column in columns), default=0) < 4 else "small"
    axes.set_xticks(range(len(columns)), [column.label for column in columns], fontsize=size)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("\n".join(below), loc="left")
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure
