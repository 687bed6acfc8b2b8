"""Many runs as one table: what the search adds over uniform merges, set by set.

    python -m experiments.summarise runs/paper

Reads every results.json below the folder. Runs that differ in more than suite and
seed are told apart by what differs. All figures are means over tasks on the test split, in percent;
a run's recipe and every tuned weight were chosen on the search split.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from textwrap import fill
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from experiments.configs import flat
from experiments.glance import experts, is_papers, weighs_each_expert
from experiments.report import Row, rows_from_json
from experiments.tables import fitted, screen

COLUMNS = (
    "suite",
    "agent",
    "space",
    "settings",
    "runs",
    "experts",
    "best of the paper's merges",
    "tuned per expert",
    "found",
    "over the paper's",
    "over tuned",
    "least … most",
)
WORDS = ("suite", "agent", "space", "settings")
SAME = ("suite", "seed", "run_dir", "resume", "agent.name", "space.name")
"""What does not tell settings apart."""

HEADING = 14
"""Characters of a heading's line."""


@dataclass(frozen=True)
class Outcome:
    """One run's test figures in percent.

    Attributes:
        suite, agent, space: what was searched, by what, and where.
        experts: the best expert of each task, mean over tasks.
        paper: the best uniform merge of the paper's kind, chosen by its test figure.
        tuned: task arithmetic with one weight per expert; None where the table has none.
        uniform: the uniform merge that is best on the search split, of all in the table.
        found: the found recipe.
        config: every setting of the run, by its name with dots; none where they were not kept.
    """

    suite: str
    agent: str
    space: str
    experts: float
    paper: float
    tuned: float | None
    uniform: float
    found: float
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Outcome:
        """The outcome of one results.json."""
        data, config = json.loads(file.read_text()), file.with_name("config.yaml")
        rows = rows_from_json(data["rows"])
        uniform = [row for row in rows if row.kind == "uniform"]
        tuned = [_percent(row) for row in uniform if weighs_each_expert(row)]
        return cls(
            suite=data["suite"],
            agent=data["agent"],
            space=data.get("space", "Walk"),  # earlier runs knew no other
            experts=experts(rows).percent("test"),
            paper=max(_percent(row) for row in uniform if is_papers(row)),
            tuned=max(tuned, default=None),
            uniform=_percent(max(uniform, key=lambda row: row.mean("search"))),
            found=next(_percent(row) for row in rows if row.kind == "found"),
            config=flat(cast(DictConfig, OmegaConf.load(config))) if config.is_file() else {},
        )


def _percent(row: Row) -> float:
    return 100 * row.mean("test")


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.1f}"
    return f"{fmean(values):.1f} ± {stdev(values):.1f}"


def summary(outcomes: Sequence[Outcome], console: Console) -> Table:
    """One row for each suite, agent, space and settings, and one over all suites for them;
    with as many columns as the console has room for, the figures of what was found last to go."""
    choices: tuple[list[str], ...] = (
        list(COLUMNS),
        [name for name in COLUMNS if name not in ("least … most", "over the paper's")],
        ["suite", "agent", "space", "settings", "runs", "found", "over tuned"],
        ["suite", "agent", "space", "settings", "found"],
    )
    searches = grouped(outcomes)
    if not any(settings for _, _, settings in searches):
        choices = tuple([name for name in of if name != "settings"] for of in choices)
    return fitted(console, (_summary(searches, choice) for choice in choices))


def grouped(outcomes: Sequence[Outcome]) -> dict[tuple[str, str, str], list[Outcome]]:
    """{(agent, space, settings): their runs}; settings are those in which runs of the same agent
    and space differ, but for suite and seed."""
    alike: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        alike[outcome.agent, outcome.space].append(outcome)
    searches: dict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
    for (agent, space), members in sorted(alike.items()):
        names = sorted({name for one in members for name in one.config} - set(SAME))
        swept = [name for name in names if len({_value(one, name) for one in members}) > 1]
        for one in members:
            settings = ", ".join(f"{name}={_value(one, name)}" for name in swept)
            searches[agent, space, settings].append(one)
    return searches


def _value(outcome: Outcome, name: str) -> str:
    return str(outcome.config.get(name))


def _summary(
    searches: Mapping[tuple[str, str, str], Sequence[Outcome]], columns: Sequence[str]
) -> Table:
    table = Table(title="test split, mean over tasks, %", title_justify="left")
    for column in columns:
        text = column in WORDS
        heading = fill(column, HEADING)
        table.add_column(heading, justify="left" if text else "right", no_wrap=column != "settings")
    for (_, _, settings), members in searches.items():
        for suite in sorted({outcome.suite for outcome in members}):
            runs = [one for one in members if one.suite == suite]
            cells = _cells(suite, settings, runs)
            table.add_row(*(cells[column] for column in columns))
        cells = _cells("all", settings, members)
        table.add_row(*(cells[column] for column in columns), style="bold", end_section=True)
    return table


def _cells(suite: str, settings: str, runs: Sequence[Outcome]) -> dict[str, str]:
    """{column: what stands there}"""
    over_paper = [run.found - run.paper for run in runs]
    over_tuned = [run.found - run.tuned for run in runs if run.tuned is not None]
    tuned = [run.tuned for run in runs if run.tuned is not None]
    values = (
        suite,
        runs[0].agent,
        runs[0].space,
        settings,
        str(len(runs)),
        f"{fmean(run.experts for run in runs):.1f}",
        f"{fmean(run.paper for run in runs):.1f}",
        f"{fmean(tuned):.1f}" if tuned else "–",
        spread([run.found for run in runs]),
        spread(over_paper),
        spread(over_tuned) if tuned else "–",
        f"{min(over_paper):+.1f} … {max(over_paper):+.1f}",
    )
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    """Print the summary of a folder of runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="a folder that holds runs, at any depth")
    folder = parser.parse_args().folder
    files = sorted(folder.rglob("results.json"))
    if not files:
        raise SystemExit(f"error: no results.json below {folder}: no run has finished there")
    console = screen(width=150)
    console.print(summary([Outcome.read(file) for file in files], console))


if __name__ == "__main__":
    main()
