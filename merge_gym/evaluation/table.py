"""Tables: every recipe of a small suite scored beforehand, example by example.

A table holds the recipes without stacking: each layer is taken from one of C candidates or skipped,
(C+1)^L in all, in the order of their decisions with skip last. `merge_gym.evaluation.table_file`
says how it is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge_gym.evaluation.scorer import Outcome, Request, Scorer
from merge_gym.evaluation.subsets import Subsets
from merge_gym.evaluation.table_file import Rows, find_table, read_rows
from merge_gym.messages import unknown_name
from merge_gym.recipe import Layer, Recipe, parts_text
from merge_gym.spaces.candidates import Candidates


class Table(Scorer):
    """The scores of all recipes without stacking, in the place of a model.

    Args:
        candidates: what the recipes are made of.
        splits: what they get right, by split: `search`, and for reports `test`, which may be
            missing.
        subsets: S, in how many slices the search split is dealt.

    Raises ValueError where S exceeds the smallest search split.

    Example:
        >>> import merge_gym
        >>> table = merge_gym.load_table("fashion-halves-0")
        >>> best, score = table.optimum()
        >>> table.rank(best), score, table.score(best, "test")  # doctest: +SKIP
    """

    def __init__(self, candidates: Candidates, splits: Mapping[str, Rows], subsets: int) -> None:
        self.candidates, self.splits = candidates, splits
        self.search = splits["search"]
        self.tasks, self.subset_count = tuple(self.search.labels), subsets
        self._subsets = {task: Subsets(of, subsets) for task, of in self.search.labels.items()}
        self._fractions: dict[int | None, dict[str, NDArray[np.float64]]] = {}

    def __len__(self) -> int:
        """Number of recipes."""
        return count_recipes(self.candidates)

    @cached_property
    def digest(self) -> str:
        """What tells this table from others, whether or not it knows the test split."""
        candidates = self.candidates
        sources = [source.to_dict() for source in (*candidates.sources, candidates.shared[0][1])]
        content = json.dumps([candidates.digest, sources, self.search.checksum])
        return sha256(content.encode()).hexdigest()[:16]

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
        return sum(len(self._examples(unit)) for unit in self.units(request))

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
        if subset is None:
            return len(self.search.labels[task])
        return len(self._subsets[task].rows[subset])

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
        if not isinstance(request.recipe, Recipe):
            raise ValueError("a table knows recipes and no libraries: score with the models")
        cost, index = self.cost(request), self.index(request.recipe)
        bits = self._split(request.split).bits
        right = {task: np.unpackbits(of[index]) for task, of in bits.items()}
        values: dict[str, list[NDArray[np.float32]]] = {}
        for unit in self.units(request):
            task = unit.tasks[0] if unit.tasks else ""
            chosen = right[task][self._examples(unit)]
            values.setdefault(task, []).append(chosen.astype(np.float32))
        return Outcome({task: np.concatenate(parts) for task, parts in values.items()}, cost)

    def _examples(self, unit: Request) -> NDArray[np.int64]:
        """The positions of the examples that a unit of a request names."""
        task = unit.tasks[0] if unit.tasks else ""
        if unit.subsets is None:
            return np.arange(len(self._split(unit.split).labels[task]))
        return self._subsets[task].rows[unit.subsets[0]]

    def _split(self, split: str) -> Rows:
        if split not in self.splits:
            raise ValueError(
                f"the table does not hold this split: {unknown_name('split', split, self.splits)} "
                f"python -m experiments.tabulate test=true makes one with the test split"
            )
        return self.splits[split]

    def _accuracies(self, task: str, subset: int | None) -> NDArray[np.float64]:
        examples = len(self.search.labels[task])
        rows = np.arange(examples) if subset is None else self._subsets[task].rows[subset]
        chosen = np.zeros(examples, np.uint8)
        chosen[rows] = 1
        right = np.bitwise_count(self.search.bits[task] & np.packbits(chosen))
        return right.sum(axis=1, dtype=np.int64) / len(rows)

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


def load_table(table: str | Path, subsets: int = 10) -> Table:
    """Open a finished table.

    Args:
        table: a shipped table's name (`list_tables()`), or a file.
        subsets: S, in how many slices the search split is dealt.

    Raises:
        FileNotFoundError: no such table.
        ValueError: a file that is no table, damaged or not finished; S exceeds the smallest search
            split.
    """
    file = find_table(table)
    candidates, splits = read_rows(file)
    done, total = len(splits["search"]), count_recipes(candidates)
    if done != total:
        raise ValueError(
            f"the table {file} holds {done} of {total} recipes: finish it with "
            f"python -m experiments.tabulate"
        )
    return Table(candidates, splits, subsets)
