"""A small table with a landscape of its own, written in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from merge_gym.evaluation.table import Table, count_recipes
from merge_gym.evaluation.table_file import Rows, write_rows
from merge_gym.recipe import Source, whole
from merge_gym.spaces.candidates import Candidates

LAYERS, EXAMPLES, CLASSES = 4, 40, 4


def candidates() -> Candidates:
    sources = [Source.expert("a"), Source.expert("b"), Source.operator("average")]
    names = [source.name for source in sources]
    return Candidates("tiny", "0" * 16, {"layers": LAYERS}, sources, names, whole(sources[2]))


def write_table(file: Path, seed: int = 0, test: bool = True) -> Path:
    """A table of 256 recipes whose accuracy is a random sum over layers, and noise."""
    generator, made = np.random.default_rng(seed), candidates()
    recipes = count_recipes(made)
    choices = np.arange(recipes)[:, None] // 4 ** np.arange(LAYERS)[::-1] % 4
    quality = generator.normal(size=(LAYERS, 4))[np.arange(LAYERS), choices].sum(axis=1)
    chance = 1 / (1 + np.exp(-quality))

    def rows() -> Rows:
        right = generator.random((recipes, 2, EXAMPLES)) < chance[:, None, None]
        labels = np.arange(EXAMPLES, dtype=np.int64) % CLASSES
        return Rows(
            {task: np.packbits(right[:, at], axis=1) for at, task in enumerate(("one", "two"))},
            {"one": labels, "two": labels},
        )

    splits = {"search": rows(), "test": rows()}
    write_rows(file, made, splits if test else {"search": splits["search"]})
    return file


def accuracies(table: Table, split: str = "search") -> np.ndarray:
    """Every recipe's mean accuracy, straight from the bits."""
    bits = table.splits[split].bits.values()
    return np.mean([np.unpackbits(of, axis=1)[:, :EXAMPLES].mean(axis=1) for of in bits], axis=0)
