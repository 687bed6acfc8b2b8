"""Results as data: a row for each run, in a CSV file that can be handed on and checked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from experiments.benchmarking.plan import PROTOCOL, Job, open_table
from experiments.benchmarking.store import Curve, Result
from merge_gym.evaluation.scorer import Request
from merge_gym.evaluation.table import Table
from merge_gym.files import write_text


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        protocol: of the benchmark.
        label, agent, settings, table, budget, seed, subsets: of the `Job`.
        digest: of the table.
        spent, trials, curve, seconds: of its `Result`.
        found: where the found recipe stands in the table.
        search: its mean over tasks on the search split, in percent.
        test: on the test split; None where the table does not know it.
        regret: how many points of `search` the table's best recipe has more.
    """

    protocol: str
    label: str
    agent: str
    settings: str
    table: str
    digest: str
    budget: float
    seed: int
    subsets: int
    spent: int
    trials: int
    found: int
    search: float
    test: float | None
    regret: float
    seconds: float
    curve: str

    @classmethod
    def of(cls, job: Job, result: Result) -> Row:
        table = open_table(job.table, job.subsets)
        test = score(table, result.found, "test") if "test" in table.splits else None
        search = score(table, result.found)
        return cls(
            protocol=PROTOCOL,
            **vars(job),
            digest=table.digest,
            spent=result.spent,
            trials=result.trials,
            found=result.found,
            search=search,
            test=test,
            regret=round(100 * table.optimum()[1] - search, 4),
            seconds=round(result.seconds, 3),
            curve=json.dumps(result.curve),
        )

    @property
    def job(self) -> Job:
        names = [of.name for of in fields(Job)]
        return Job(**{name: getattr(self, name) for name in names})

    @property
    def result(self) -> Result:
        curve: Curve = tuple(map(tuple, json.loads(self.curve)))
        return Result(self.found, self.spent, self.trials, curve, self.seconds)


COLUMNS = [of.name for of in fields(Row)]
WHOLE = ("seed", "subsets", "spent", "trials", "found")
NUMBERS = ("budget", "search", "regret", "seconds")


def score(table: Table, index: int, split: str = "search") -> float:
    """The mean over tasks of the recipe at a place of the table, in percent."""
    (outcome,) = table.evaluate([Request(table.recipe_at(index), split)])
    return round(100 * outcome.mean, 4)


def rows(jobs: Mapping[str, Job], results: Mapping[str, Result]) -> list[Row]:
    """Those of the jobs, by key, that have a result, in their order."""
    return [Row.of(job, results[key]) for key, job in jobs.items() if key in results]


def write_rows(file: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    write_text(file, text.getvalue())


def read_rows(file: Path) -> list[Row]:
    """The rows of a file that `write_rows` wrote; ValueError where it is none."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            if reader.fieldnames != COLUMNS:
                raise ValueError(f"its columns are {reader.fieldnames}, not {COLUMNS}")
            return [_row(number, line) for number, line in enumerate(reader, 2)]
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ValueError(f"{file} holds no results of a benchmark: {error}") from None


def _row(number: int, line: dict[str, str]) -> Row:
    if None in line or None in line.values():
        raise ValueError(f"line {number} has not {len(COLUMNS)} values")
    try:
        whole = {name: int(line[name]) for name in WHOLE}
        numbers = {name: float(line[name]) for name in NUMBERS}
        test = float(line["test"]) if line["test"] else None
        row = Row(**{**line, **whole, **numbers, "test": test})  # type: ignore[arg-type]
        json.loads(row.settings), row.result
    except (ValueError, TypeError) as error:
        raise ValueError(f"line {number}: {error}") from None
    return row
