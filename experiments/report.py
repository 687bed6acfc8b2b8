"""What a run reports: every expert, every uniform merge and the found recipe, on both splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from merge_gym.evaluation.scorer import Scorer, mean_over_tasks
from merge_gym.merging.bank import LayerBank, spec_name
from merge_gym.merging.probe import probe
from merge_gym.recipe import Calibration, Recipe, Source

SPLITS = ("search", "test")
CALIBRATED = 200
"""Unlabelled examples of each task on which heads are calibrated, or all there are."""

PRETRAINED = {"name": "task_arithmetic", "weight": 0.0}
"""The pretrained model, as a merge."""


@dataclass(frozen=True)
class Row:
    """One model of the table.

    Attributes:
        kind: `expert`, `pretrained`, `uniform` (one operator for the whole model), `found`,
            `calibrated` (one of these with calibrated heads), or `probe` (the pretrained trunk with
            heads that are fitted to the labelled search split).
        name: expert, operator or agent.
        source: what the whole model is made of, by value; None for a found recipe.
        search, test: {task: metric in [0, 1]} on the whole split.
    """

    kind: str
    name: str
    source: Mapping[str, Any] | None
    search: Mapping[str, float]
    test: Mapping[str, float]

    def mean(self, split: str) -> float:
        """The mean over tasks."""
        return mean_over_tasks(getattr(self, split))


def reference_sources(bank: LayerBank, baselines: Iterable[Any]) -> dict[str, Source]:
    """{name: source} of the experts, the bank's operators and further uniform merges."""
    names = dict(zip(bank.candidates.sources, bank.candidates.names, strict=True))
    names[bank.source(PRETRAINED)] = "pretrained"
    for spec in baselines:
        names.setdefault(bank.source(spec), spec_name(spec))
    return {name: source for source, name in names.items()}


def reference_row(name: str, source: Source, bank: LayerBank, scorer: Scorer) -> Row:
    """Score the merge of every parameter by one source, those outside the layers included."""
    kind = "expert" if source.kind == "expert" else "uniform"
    if source == bank.source(PRETRAINED):
        kind = "pretrained"
    return Row(kind, name, source.to_dict(), *_scores(bank.uniform(source), scorer))


def found_row(name: str, recipe: Recipe, scorer: Scorer) -> Row:
    """Score what a search found."""
    return Row("found", name, None, *_scores(recipe, scorer))


def head_rows(rows: Sequence[Row], recipe: Recipe, bank: LayerBank, scorer: Scorer) -> list[Row]:
    """With other heads than the experts' own: calibrated, and the linear probe; none where the
    family's heads cannot be calibrated."""
    if bank.suite.adapter.features is None:
        return []
    smallest = min(len(task.splits["search"]) for task in bank.suite.tasks.values())
    calibration = Calibration(min(CALIBRATED, smallest))
    fitted = recipe.heads is None
    calibrated = calibrated_rows(rows, recipe, bank, scorer, calibration) if fitted else []
    return [*calibrated, probe_row(bank)]


def calibrated_rows(
    rows: Sequence[Row], recipe: Recipe, bank: LayerBank, scorer: Scorer, calibration: Calibration
) -> list[Row]:
    """With heads that are calibrated: the controls (trunks that are no merge), the best uniform
    merge by the search split, and the found recipe."""
    uniform = max((r for r in rows if r.kind == "uniform"), key=lambda row: row.mean("search"))
    shown = [row for row in rows if row.kind in ("pretrained", "expert")] + [uniform]
    recipes = {
        f"expert {row.name}" if row.kind == "expert" else row.name: bank.uniform(
            Source.from_dict(row.source or {})
        )
        for row in shown
    }
    recipes["found"] = recipe
    return [
        Row("calibrated", name, None, *_scores(replace(of, heads=calibration), scorer))
        for name, of in recipes.items()
    ]


def probe_row(bank: LayerBank) -> Row:
    """The pretrained trunk with heads fitted to labels."""
    recipe = bank.resolve(bank.uniform(bank.source(PRETRAINED)))
    scores = {task: probe(recipe, bank, task) for task in bank.suite.tasks}
    search, test = ({task: of[split] for task, of in scores.items()} for split in SPLITS)
    return Row("probe", "linear probe", None, search, test)


def found(rows: Sequence[Row]) -> Row:
    """The row of what a search found."""
    return next(row for row in rows if row.kind == "found")


def _scores(recipe: Recipe, scorer: Scorer) -> Iterable[dict[str, float]]:
    return (scorer.score(recipe, split) for split in SPLITS)


def rows_to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [asdict(row) for row in rows]


def rows_from_json(data: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows that `rows_to_json` wrote."""
    return [Row(**entry) for entry in data]
