"""Scores kept on disk, so that no recipe is evaluated twice in a run, killed or not."""

from __future__ import annotations

import json
from pathlib import Path

from merge_gym.evaluation import Scorer
from merge_gym.recipe import Recipe
from merge_gym.studies.lines import JsonLines


class Journal:
    """A Scorer that looks a score up in its file before it asks `evaluator`, and appends new ones.

    Scores depend on recipe, split and subset only; `cost` therefore answers as `evaluator` does,
    whether the score was computed or looked up.

    Args:
        evaluator: what computes scores.
        file: JSON lines with `recipe`, `split`, `subset` and `scores`.
    """

    def __init__(self, evaluator: Scorer, file: str | Path) -> None:
        self.evaluator = evaluator
        self._lines = JsonLines(Path(file))
        self._scores: dict[tuple[Recipe, str, int | None], dict[str, float]] = {
            (
                Recipe.from_json(json.dumps(entry["recipe"])),
                entry["split"],
                entry["subset"],
            ): entry["scores"]
            for entry in self._lines.entries
        }

    def score(
        self, recipe: Recipe, split: str = "search", subset: int | None = None
    ) -> dict[str, float]:
        """{task: its metric in [0, 1]} on a split, or on one subset of the search split."""
        key = (recipe, split, subset)
        if key not in self._scores:
            scores = self.evaluator.score(recipe, split, subset)
            self._lines.append(
                {
                    "recipe": json.loads(recipe.to_json()),
                    "split": split,
                    "subset": subset,
                    "scores": scores,
                }
            )
            self._scores[key] = scores
        return dict(self._scores[key])

    def cost(self, split: str = "search", subset: int | None = None) -> int:
        """The evaluation cost of one score: examples pushed through a whole model."""
        return self.evaluator.cost(split, subset)

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
