"""Tables: every recipe of a small suite scored beforehand, example by example.

A table holds the recipes without stacking: each layer is taken from one of C candidates or skipped,
(C+1)^L in all, in the order of their decisions with skip last. One safetensors file holds a bit for
each recipe and example of the search split, the examples' labels, and as JSON what they belong to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from merge_gym.evaluation.scorer import Outcome, Request, Scorer
from merge_gym.evaluation.subsets import Subsets
from merge_gym.recipe import Layer, Recipe, Source, parts_text, whole
from merge_gym.spaces.candidates import Candidates

FORMAT = "merge_gym.table/1"

Bits = Mapping[str, NDArray[np.uint8]]
Labels = Mapping[str, NDArray[np.int64]]


class Table(Scorer):
    """The scores of all recipes without stacking, in the place of a model.

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
        self.candidates = candidates
        self.bits, self.labels = bits, labels
        self.tasks, self.subset_count = tuple(labels), subsets
        self._subsets = {task: Subsets(of, subsets) for task, of in labels.items()}
        self._fractions: dict[int | None, dict[str, NDArray[np.float64]]] = {}

    def __len__(self) -> int:
        """Number of recipes."""
        return count_recipes(self.candidates)

    @property
    def operators(self) -> list[dict[str, Any]]:
        """The operators among the candidates, as LayerBank takes them."""
        written = [
            source.to_dict() for source in self.candidates.sources if source.kind == "operator"
        ]
        return [{"name": operator.pop("operator"), **operator} for operator in written]

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        return [self._outcome(request) for request in requests]

    def cost(self, request: Request) -> int:
        self.check(request)
        if request.split != "search":
            raise ValueError(f"a table holds the search split only, got split={request.split!r}")
        rows = [self._rows(unit) for unit in self.units(request)]
        return sum(map(len, rows))

    def fractions(self, subset: int | None = None) -> dict[str, NDArray[np.float64]]:
        """{task: every recipe's accuracy, shape (recipes,)}; not to be changed."""
        if subset not in self._fractions:
            self._fractions[subset] = {task: self._accuracies(task, subset) for task in self.tasks}
        return self._fractions[subset]

    def look_up(
        self, maps: NDArray[np.float32], subsets: tuple[int, ...] | None
    ) -> tuple[dict[str, NDArray[np.float64]], int]:
        """{task: the accuracy of each recipe}, shape (n,), and what one of them costs, of the
        recipes of these merging maps, on one subset or on the whole split."""
        (subset,) = (None,) if subsets is None else subsets
        places = self.indices(maps)
        scores = {task: known[places] for task, known in self.fractions(subset).items()}
        return scores, sum(self._size(task, subset) for task in self.tasks)

    def _size(self, task: str, subset: int | None) -> int:
        return len(self.labels[task] if subset is None else self._subsets[task].rows[subset])

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
        candidates = self.candidates
        candidates.check(recipe)
        skip = len(candidates)
        index = 0
        segments = zip(recipe.segments, candidates.segments.values(), strict=True)
        for (segment, layers), size in segments:
            places = [layer.index for layer in layers]
            if places != sorted(set(places)) or recipe.shared != candidates.shared:
                raise ValueError(
                    f"the table holds recipes without stacking and with the shared parameters of "
                    f"{parts_text(candidates.shared)}; {segment!r} of this one takes the layers "
                    f"{places}, its shared parameters are of {parts_text(recipe.shared)}"
                )
            digits = dict.fromkeys(range(size), skip)
            digits |= {layer.index: self._number(layer) for layer in layers}
            for digit in digits.values():
                index = index * (skip + 1) + digit
        return index

    def indices(self, maps: NDArray[np.float32]) -> NDArray[np.int64]:
        """Where the recipes of these merging maps stand, each layer taken at most once; maps of
        shape (n, N+M, L), result of shape (n,)."""
        skip = len(self.candidates)
        digits = np.where(maps.any(axis=1), maps.argmax(axis=1), skip)
        return digits @ (skip + 1) ** np.arange(digits.shape[1])[::-1]

    def recipe_at(self, index: int) -> Recipe:
        """The recipe at a place in the table."""
        return self.candidates.recipe(decisions(index, len(self.candidates), self.candidates.depth))

    def check_candidates(self, candidates: Candidates) -> None:
        """ValueError unless the table was made from this suite and these candidates."""
        ours = self.candidates
        if candidates.digest != ours.digest:
            raise ValueError(
                f"the table was made for the suite {ours.suite} with digest {ours.digest}, this is "
                f"{candidates.suite} with digest {candidates.digest}: make this suite's own table"
            )
        if (candidates.sources, candidates.shared) != (ours.sources, ours.shared):
            raise ValueError(
                f"the table holds the candidates {', '.join(ours.names)} with the shared "
                f"parameters of {parts_text(ours.shared)}, but {', '.join(candidates.names)} with "
                f"those of {parts_text(candidates.shared)} were asked for: leave out operators=, "
                f"or make another table"
            )

    def _outcome(self, request: Request) -> Outcome:
        cost, index = self.cost(request), self.index(request.recipe)
        right = {task: np.unpackbits(bits[index]) for task, bits in self.bits.items()}
        values: dict[str, list[NDArray[np.float32]]] = {}
        for unit in self.units(request):
            task = unit.tasks[0] if unit.tasks else ""
            values.setdefault(task, []).append(right[task][self._rows(unit)].astype(np.float32))
        return Outcome({task: np.concatenate(parts) for task, parts in values.items()}, cost)

    def _rows(self, unit: Request) -> NDArray[np.int64]:
        """The positions of the examples that a unit of a request names."""
        task = unit.tasks[0] if unit.tasks else ""
        if unit.subsets is None:
            return np.arange(len(self.labels[task]))
        return self._subsets[task].rows[unit.subsets[0]]

    def _accuracies(self, task: str, subset: int | None) -> NDArray[np.float64]:
        examples = len(self.labels[task])
        rows = np.arange(examples) if subset is None else self._subsets[task].rows[subset]
        chosen = np.zeros(examples, np.uint8)
        chosen[rows] = 1
        right = np.bitwise_count(self.bits[task] & np.packbits(chosen)).sum(axis=1, dtype=np.int64)
        return right / len(rows)

    def _number(self, layer: Layer) -> int:
        sources = self.candidates.sources
        if (layer.scale, layer.stream) != (1, 1) or len(layer.parts) > 1:
            raise ValueError(f"the table holds whole layers without scales, not {layer}")
        if layer.source not in sources:
            raise ValueError(
                f"the table holds no layers of {layer.source}; it holds those of "
                f"{', '.join(self.candidates.names)}"
            )
        return sources.index(layer.source)


def count_recipes(candidates: Candidates) -> int:
    """(C+1)^L, how many recipes without stacking there are."""
    return (len(candidates) + 1) ** candidates.depth


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
        "suite": candidates.suite,
        "digest": candidates.digest,
        "segments": candidates.segments,
        "candidates": {
            name: source.to_dict()
            for name, source in zip(candidates.names, candidates.sources, strict=True)
        },
        "shared": candidates.shared[0][1].to_dict(),
        "tasks": list(labels),
    }
    tensors: dict[str, NDArray[Any]] = {f"bits/{task}": rows for task, rows in bits.items()}
    tensors |= {f"labels/{task}": of for task, of in labels.items()}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    save_file(tensors, temporary, {"header": json.dumps(header)})
    temporary.replace(file)


def _candidates(header: Mapping[str, Any]) -> Candidates:
    named = header["candidates"]
    return Candidates(
        header["suite"],
        header["digest"],
        header["segments"],
        [Source.from_dict(source) for source in named.values()],
        list(named),
        whole(Source.from_dict(header["shared"])),
    )
