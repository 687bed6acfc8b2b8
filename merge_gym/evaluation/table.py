"""Tables: every recipe of a small suite scored beforehand, example by example.

A table holds the recipes without stacking: each layer is taken from one of C candidates or skipped,
(C+1)^L in all, in the order of their decisions with skip last. One safetensors file holds a bit for
each recipe and example of the search split, the examples' labels, and as JSON what they belong to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from merge_gym.evaluation.subsets import balanced_subsets
from merge_gym.recipe import Layer, Recipe, Source
from merge_gym.spaces.candidates import Candidates

FORMAT = "merge_gym.table/1"

Bits = Mapping[str, NDArray[np.uint8]]
Labels = Mapping[str, NDArray[np.int64]]


class Table(Candidates):
    """The scores of all recipes without stacking, in the place of bank and evaluator.

    Args:
        candidates: what the recipes are made of.
        bits: for each task, whether a recipe gets an example right: bits of uint8 rows (as
            `numpy.packbits`), shape (recipes, ⌈n / 8⌉).
        labels: for each task, the examples' classes, shape (n,).
        subsets: S, in how many slices the search split is dealt.

    Raises ValueError where S exceeds the smallest search split.

    Example:
        >>> from merge_gym.evaluation.table import load_table
        >>> table = load_table("tables/fashion-halves-0.safetensors")  # doctest: +SKIP
        >>> best, score = table.optimum()  # doctest: +SKIP
        >>> table.rank(best)  # doctest: +SKIP
        1
    """

    def __init__(self, candidates: Candidates, bits: Bits, labels: Labels, subsets: int) -> None:
        super().__init__(
            candidates.suite_name,
            candidates.digest,
            candidates.segments,
            candidates.sources,
            candidates.candidates,
        )
        self.shared = candidates.shared
        self.bits, self.labels = bits, labels
        self.subsets = {task: balanced_subsets(of, subsets) for task, of in labels.items()}
        self._fractions: dict[int | None, dict[str, NDArray[np.float64]]] = {}

    def __len__(self) -> int:
        """Number of recipes."""
        return count_recipes(self)

    @property
    def operators(self) -> list[dict[str, Any]]:
        """The operators among the candidates, as LayerBank takes them."""
        written = [source.to_dict() for source in self.sources if source.kind == "operator"]
        return [{"name": operator.pop("operator"), **operator} for operator in written]

    def score(
        self, recipe: Recipe, split: str = "search", subset: int | None = None
    ) -> dict[str, float]:
        """{task: accuracy in [0, 1]} on the search split or on one subset of it."""
        self._check_split(split)
        index = self.index(recipe)
        return {task: float(values[index]) for task, values in self.fractions(subset).items()}

    def values(
        self, recipe: Recipe, split: str = "search", subset: int | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """{task: 1 or 0 for each example, shape (n,)}; `score` is their mean."""
        self._check_split(split)
        index = self.index(recipe)
        return {
            task: np.unpackbits(bits[index])[self._rows(task, subset)].astype(np.float32)
            for task, bits in self.bits.items()
        }

    def cost(self, split: str = "search", subset: int | None = None) -> int:
        """Examples that a score stands for."""
        self._check_split(split)
        return sum(len(self._rows(task, subset)) for task in self.labels)

    def fractions(self, subset: int | None = None) -> dict[str, NDArray[np.float64]]:
        """{task: every recipe's accuracy, shape (recipes,)}; not to be changed."""
        if subset not in self._fractions:
            self._fractions[subset] = {task: self._accuracies(task, subset) for task in self.bits}
        return self._fractions[subset]

    def scores(self, subset: int | None = None) -> NDArray[np.float64]:
        """The mean over tasks of every recipe's score, shape (recipes,)."""
        return np.mean(list(self.fractions(subset).values()), axis=0)

    def optimum(self, subset: int | None = None) -> tuple[Recipe, float]:
        """The best recipe (the first of several) and its mean score over tasks."""
        scores = self.scores(subset)
        best = int(scores.argmax())
        return self.recipe_at(best), float(scores[best])

    def rank(self, recipe: Recipe, subset: int | None = None) -> int:
        """1 + the number of recipes with a higher mean score."""
        scores = self.scores(subset)
        return 1 + int((scores > scores[self.index(recipe)]).sum())

    def index(self, recipe: Recipe) -> int:
        """Where the recipe stands; ValueError if it stacks layers or takes other sources."""
        self.check(recipe)
        skip = len(self.sources)
        index = 0
        for (segment, layers), size in zip(recipe.segments, self.segments.values(), strict=True):
            places = [layer.index for layer in layers]
            if places != sorted(set(places)) or recipe.shared != self.shared:
                raise ValueError(
                    f"the table holds recipes without stacking and with the shared parameters of "
                    f"{self.shared}; {segment!r} of this one takes the layers {places}, its "
                    f"shared parameters are of {recipe.shared}"
                )
            digits = dict.fromkeys(range(size), skip)
            digits |= {layer.index: self._number(layer) for layer in layers}
            for digit in digits.values():
                index = index * (skip + 1) + digit
        return index

    def indices(self, maps: NDArray[np.float32]) -> NDArray[np.int64]:
        """Where the recipes of these merging maps stand, each layer taken at most once; maps of
        shape (n, N+M, L), result of shape (n,)."""
        skip = len(self.sources)
        digits = np.where(maps.any(axis=1), maps.argmax(axis=1), skip)
        return digits @ (skip + 1) ** np.arange(digits.shape[1])[::-1]

    def recipe_at(self, index: int) -> Recipe:
        """The recipe at a place in the table."""
        return self.recipe(decisions(index, len(self.sources), sum(self.segments.values())))

    def check_bank(self, bank: Candidates) -> None:
        """ValueError unless the table was made from this suite and these candidates."""
        if bank.digest != self.digest:
            raise ValueError(
                f"the table was made for the suite {self.suite_name} with digest {self.digest}, "
                f"this is {bank.suite_name} with digest {bank.digest}: make this suite's own table"
            )
        if (bank.sources, bank.shared) != (self.sources, self.shared):
            raise ValueError(
                f"the table holds the candidates {', '.join(self.candidates)} with the shared "
                f"parameters of {self.shared}, but {', '.join(bank.candidates)} with those of "
                f"{bank.shared} were asked for: leave out operators=, or make another table"
            )

    def _accuracies(self, task: str, subset: int | None) -> NDArray[np.float64]:
        rows = self._rows(task, subset)
        chosen = np.zeros(len(self.labels[task]), np.uint8)
        chosen[rows] = 1
        right = np.bitwise_count(self.bits[task] & np.packbits(chosen)).sum(axis=1, dtype=np.int64)
        return right / len(rows)

    def _rows(self, task: str, subset: int | None) -> NDArray[np.int64]:
        if subset is None:
            return np.arange(len(self.labels[task]))
        if not 0 <= subset < len(self.subsets[task]):
            raise ValueError(
                f"a subset is a number from 0 to {len(self.subsets[task]) - 1}, got {subset!r}"
            )
        return self.subsets[task][subset]

    def _number(self, layer: Layer) -> int:
        if layer.source not in self.sources:
            raise ValueError(
                f"the table holds no layers of {layer.source}; it holds those of "
                f"{', '.join(self.candidates)}"
            )
        return self.sources.index(layer.source)

    def _check_split(self, split: str) -> None:
        if split != "search":
            raise ValueError(f"a table holds the search split only, got split={split!r}")


def count_recipes(candidates: Candidates) -> int:
    """(C+1)^L, how many recipes without stacking there are."""
    return (len(candidates.sources) + 1) ** sum(candidates.segments.values())


def decisions(index: int, sources: int, layers: int) -> list[tuple[int, int]]:
    """The (layer, candidate) pairs of the recipe at `index`; skipped layers are left out."""
    digits = []
    for _ in range(layers):
        index, digit = divmod(index, sources + 1)
        digits.append(digit)
    return [(layer, digit) for layer, digit in enumerate(reversed(digits)) if digit < sources]


def load_table(file: str | Path, subsets: int = 10) -> Table:
    """Read a finished table.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a table, or one that is not finished; S exceeds the smallest search split.
    """
    candidates, bits, labels = read_rows(Path(file))
    done, total = len(next(iter(bits.values()))), count_recipes(candidates)
    if done < total:
        raise ValueError(
            f"the table {file} holds {done} of {total} recipes: finish it with "
            f"python -m experiments.tabulate"
        )
    return Table(candidates, bits, labels, subsets)


def read_rows(
    file: Path,
) -> tuple[Candidates, dict[str, NDArray[np.uint8]], dict[str, NDArray[np.int64]]]:
    """Candidates, bits and labels of a table that may not be finished; ValueError if `file` is
    none."""
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no table {str(file)!r}: make it with python -m experiments.tabulate"
        )
    try:
        with safe_open(file, "np") as handle:
            header = json.loads((handle.metadata() or {}).get("header", "{}"))
            if header.get("format") != FORMAT:
                raise ValueError(f"{file} is not a table of format {FORMAT!r}")
            tasks = header["tasks"]
            bits = {task: handle.get_tensor(f"bits/{task}") for task in tasks}
            labels = {task: handle.get_tensor(f"labels/{task}") for task in tasks}
    except SafetensorError as error:
        raise ValueError(f"{file} is not a complete safetensors file ({error})") from None
    return _candidates(header), bits, labels


def write_rows(file: Path, candidates: Candidates, bits: Bits, labels: Labels) -> None:
    """Write a table, finished or not, in place of the one that may be there."""
    header = {
        "format": FORMAT,
        "suite": candidates.suite_name,
        "digest": candidates.digest,
        "segments": candidates.segments,
        "candidates": {
            name: source.to_dict()
            for name, source in zip(candidates.candidates, candidates.sources, strict=True)
        },
        "shared": candidates.shared.to_dict(),
        "tasks": list(labels),
    }
    tensors: dict[str, NDArray[Any]] = {f"bits/{task}": rows for task, rows in bits.items()}
    tensors |= {f"labels/{task}": of for task, of in labels.items()}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    save_file(tensors, temporary, {"header": json.dumps(header)})
    temporary.replace(file)


def _candidates(header: Mapping[str, Any]) -> Candidates:
    sources = [Source.from_dict(source) for source in header["candidates"].values()]
    candidates = Candidates(
        header["suite"], header["digest"], header["segments"], sources, list(header["candidates"])
    )
    candidates.shared = Source.from_dict(header["shared"])
    return candidates
