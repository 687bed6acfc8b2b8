"""Outcomes kept on disk, so that nothing is scored twice in a search, killed or not."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge_gym.evaluation.scorer import NOTHING, Outcome, Request, Scorer, as_recipe
from merge_gym.files import Closing, JsonLines
from merge_gym.recipe import Recipe

logger = logging.getLogger(__name__)

Key = tuple[Recipe, str, str, int | None]
"""Recipe, split, task and subset."""


class Journal(Closing, Scorer):
    """A Scorer that looks in its file before it asks another one, and appends what is new.

    What is kept are the values of each task and subset by themselves, so that a request is asked
    only for what is missing of it. `cost` answers as the other scorer does.

    Args:
        scorer: what computes.
        file: JSON lines, one for each recipe, split, task and subset.

    An entry that is damaged is left out, with a warning, and scored again.

    Raises ValueError for a file that was kept with another number of subsets.
    """

    def __init__(self, scorer: Scorer, file: str | Path) -> None:
        self.scorer = scorer
        self.tasks, self.subset_count = scorer.tasks, scorer.subset_count
        self._lines = JsonLines(Path(file))
        self._values: dict[Key, NDArray[np.float32]] = {}
        for number, entry in enumerate(self._lines.entries, 1):
            try:
                key, values = _read_key(entry), _read(entry["values"])
            except (AttributeError, KeyError, TypeError, ValueError):
                logger.warning("entry %d of %s is damaged and left out", number, file)
                continue
            self._check_size(key, values, Path(file))
            self._values[key] = values

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        missing: dict[Key, Request] = {}
        for request in requests:
            self.check(request)
            for unit in self.units(request):
                if _key(unit) not in self._values:
                    missing[_key(unit)] = unit
        seconds = self._ask(list(missing.values()))
        return [self._outcome(request, seconds) for request in requests]

    def cost(self, request: Request) -> int:
        return self.scorer.cost(request)

    def close(self) -> None:
        self._lines.close()

    def _check_size(self, key: Key, values: NDArray[np.float32], file: Path) -> None:
        _, split, task, subset = key
        subsets = None if subset is None else (subset,)
        size = self.scorer.cost(Request(NOTHING, split, subsets, (task,)))
        if len(values) != size:
            raise ValueError(
                f"{file} holds {len(values)} values of {task} on subset {subset}, which has {size} "
                f"examples: it was kept with another number of subsets, name another folder"
            )

    def _ask(self, units: list[Request]) -> float:
        """Score units and write them down; returns the seconds that they took."""
        seconds = 0.0
        for unit, outcome in zip(units, self.scorer.evaluate(units), strict=True):
            recipe, split, task, subset = key = _key(unit)
            values = self._values[key] = outcome.values[task]
            seconds += outcome.seconds
            self._lines.append(
                {
                    "recipe": recipe.to_dict(),
                    "split": split,
                    "task": task,
                    "subset": subset,
                    "values": _written(values),
                }
            )
        return seconds

    def _outcome(self, request: Request, seconds: float) -> Outcome:
        parts: dict[str, list[NDArray[np.float32]]] = {}
        for unit in self.units(request):
            recipe, split, task, subset = _key(unit)
            parts.setdefault(task, []).append(self._values[recipe, split, task, subset])
        values = {task: np.concatenate(several) for task, several in parts.items()}
        return Outcome(values, self.cost(request), seconds)


def _key(unit: Request) -> Key:
    assert unit.tasks is not None
    return as_recipe(unit), unit.split, unit.tasks[0], unit.subsets[0] if unit.subsets else None


def _read_key(entry: dict[str, Any]) -> Key:
    split, task, subset = (entry[name] for name in ("split", "task", "subset"))
    if not (isinstance(split, str) and isinstance(task, str) and isinstance(subset, int | None)):
        raise ValueError(f"an entry has a split, a task and a subset, got {entry}")
    return Recipe.from_dict(entry["recipe"]), split, task, subset


def _written(values: NDArray[np.float32]) -> dict[str, Any]:
    """Values as text: a bit each where they are all 0 or 1, else as float32."""
    if np.isin(values, (0, 1)).all():
        return {"bits": _text(np.packbits(values.astype(np.bool_))), "count": len(values)}
    return {"floats": _text(values.astype("<f4"))}


def _read(data: dict[str, Any]) -> NDArray[np.float32]:
    if "bits" in data:
        bits = np.frombuffer(base64.b64decode(data["bits"]), np.uint8)
        if len(bits) != -(-data["count"] // 8):
            raise ValueError(f"{len(bits)} bytes do not hold {data['count']} bits")
        return np.unpackbits(bits, count=data["count"]).astype(np.float32)
    return np.frombuffer(base64.b64decode(data["floats"]), "<f4").astype(np.float32)


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()
