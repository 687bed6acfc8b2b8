"""Replay a recipe or the results of a benchmark, and say whether they are what they claim.

    python -m experiments.validate recipe.json
    python -m experiments.validate runs/benchmark/results.csv --replay 20

A recipe is scored, on the table that holds it or else with the models of its suite. Of results
every row is held against its table, and some runs are searched again: same agent, settings, seed
and budget must find the same recipe at the same cost.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import agents
import merge_gym
from experiments.benchmarking.plan import PROTOCOL, open_table
from experiments.benchmarking.playing import play
from experiments.benchmarking.results import Row, read_rows
from merge_gym.evaluation.engine import Evaluator
from merge_gym.evaluation.scorer import Scorer
from merge_gym.evaluation.table import Table
from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Recipe

MEASURED = ("spent", "trials", "found", "search", "test", "regret", "curve")
"""What of a row is recomputed; its seconds are not."""


def check_rows(rows: Sequence[Row]) -> list[str]:
    """What is wrong with rows, held against their tables: a line for each fault."""
    faults = []
    seen: dict[tuple[str, str, float, int], int] = {}
    for line, row in enumerate(rows, 2):
        place = (row.label, row.table, row.budget, row.seed)
        if place in seen:
            faults.append(f"line {line} is the same run as line {seen[place]}")
        seen.setdefault(place, line)
        faults += [f"line {line}: {fault}" for fault in _faults(row)]
    return faults


def replay(rows: Sequence[Row], count: int) -> tuple[int, list[str]]:
    """Search some of the runs again.

    Returns: how many were, of agents that are known here; and what differs, a line each.
    """
    known = [line for line, row in enumerate(rows) if row.agent in agents.available()]
    chosen = np.random.default_rng(0).permutation(known)[:count].tolist()
    faults = []
    for line in tqdm(sorted(chosen), unit="run", disable=None, leave=False):
        row = rows[line]
        faults += [
            f"line {line + 2} ({row.job}), searched again: {difference}"
            for difference in _differences(row, Row.of(row.job, play(row.job)))
        ]
    return len(chosen), faults


def _faults(row: Row) -> Iterator[str]:
    if row.protocol != PROTOCOL:
        yield f"its protocol is {row.protocol!r}, this is {PROTOCOL!r}"
        return
    table = open_table(row.table, row.subsets)
    if row.digest != table.digest:
        yield f"its table {row.table} has the digest {row.digest}, the one here {table.digest}"
        return
    if not 0 <= row.found < len(table):
        yield f"found is a place from 0 to {len(table) - 1}, not {row.found}"
        return
    if not 0 < row.spent <= round(row.budget * table.whole_cost()):
        yield f"it spent {row.spent} examples of a budget of {row.budget:g} full evaluations"
    yield from _differences(row, Row.of(row.job, row.result))
    yield from _curve_faults(row, table)


def _curve_faults(row: Row, table: Table) -> Iterator[str]:
    costs, places = zip(*row.result.curve, strict=True) if row.result.curve else ((), ())
    if not places or places[-1] != row.found:
        yield "its curve does not end at what it found"
    elif min(places) < 0 or max(places) >= len(table) or list(costs) != sorted(costs):
        yield "its curve is none"
    elif max(costs) > row.spent or (np.diff(table.scores()[list(places)]) <= 0).any():
        yield "its curve does not rise within what it spent"


def _differences(row: Row, other: Row) -> list[str]:
    return [
        f"{name} is {getattr(row, name)}, not {getattr(other, name)}"
        for name in MEASURED
        if getattr(row, name) != getattr(other, name)
    ]


def check_recipe(recipe: Recipe, suite: str | None = None) -> str:
    """What a recipe scores, in words; ValueError where nothing here can score it."""
    for name in merge_gym.list_tables() if suite is None else ():
        table = merge_gym.load_table(name)
        if recipe.suite == table.candidates.digest and _holds(table, recipe):
            regret = 100 * (table.optimum()[1] - _percent(table, recipe, "search") / 100)
            return (
                f"{_scores(table, recipe)}; rank {table.rank(recipe):,} of the {len(table):,} "
                f"recipes of the table {name}, regret {regret:.2f} points"
            )
    return _scores(_models(recipe, suite), recipe)


def _holds(table: Table, recipe: Recipe) -> bool:
    try:
        table.index(recipe)
    except ValueError:
        return False
    return True


def _models(recipe: Recipe, suite: str | None) -> Scorer:
    """What scores a recipe with models: of the suite that is given, or of its shipped one."""
    for name in merge_gym.list_suites() if suite is None else (suite,):
        opened = merge_gym.load_suite(name)
        if opened.digest == recipe.suite:
            return Evaluator(LayerBank(opened))
    raise ValueError(
        f"no suite here has the digest {recipe.suite} that the recipe was made for: name its own "
        f"with --suite"
    )


def _scores(scorer: Scorer, recipe: Recipe) -> str:
    splits = [split for split in ("search", "test") if not _lacks(scorer, split)]
    return ", ".join(f"{_percent(scorer, recipe, split):.2f} on {split}" for split in splits)


def _lacks(scorer: Scorer, split: str) -> bool:
    return isinstance(scorer, Table) and split not in scorer.splits


def _percent(scorer: Scorer, recipe: Recipe, split: str) -> float:
    scores = scorer.score(recipe, split)
    return 100 * sum(scores.values()) / len(scores)


def main() -> None:
    """Check one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="a recipe (.json) or results (.csv)")
    parser.add_argument("--replay", type=int, default=10, help="how many runs to search again")
    parser.add_argument("--suite", help="of a recipe, where it is none that ships")
    asked = parser.parse_args()
    try:
        if asked.file.suffix == ".json":
            print(f"valid: {check_recipe(Recipe.from_json(asked.file.read_text()), asked.suite)}")
            return
        rows = read_rows(asked.file)
        if faults := check_rows(rows):
            raise ValueError(_listed(faults))
        count, faults = replay(rows, asked.replay)
        if faults:
            raise ValueError(_listed(faults))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"valid: {len(rows)} runs are what their tables say, {count} were searched again")


def _listed(faults: Sequence[str]) -> str:
    return "\n".join([f"{len(faults)} faults in the file", *faults[:20]])


if __name__ == "__main__":
    main()
