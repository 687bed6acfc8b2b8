"""What a run's rows come down to: a few lines for the eye, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from rich.console import Console
from rich.table import Table

from experiments.report import SPLITS, Row
from experiments.tables import fitted
from merge_gym.evaluation.scorer import mean_over_tasks

PAPER = ("average", "task_arithmetic", "ties", "dare", "dare_ties")
"""The operators whose uniform merges the paper compares with."""

GROUPS = {"bound": "bold", "merge": "", "found": "bold green", "control": "dim"}
"""Kinds of lines, from the top to the bottom, and how they are shown."""


LABEL = 56
"""Characters of a label's line."""


@dataclass(frozen=True)
class Line:
    """One model, or the experts together.

    Attributes:
        label: what it is.
        group: one of GROUPS.
        search, test: {task: metric in [0, 1]}.
    """

    label: str
    group: str
    search: Mapping[str, float]
    test: Mapping[str, float]

    def percent(self, split: str) -> float:
        """The mean over tasks."""
        return 100 * mean_over_tasks(getattr(self, split))


def weighs_each_expert(row: Row) -> bool:
    """Whether it is task arithmetic with a λ for each expert."""
    source = row.source or {}
    return source.get("operator") == "task_arithmetic" and isinstance(source["weight"], list)


def is_papers(row: Row) -> bool:
    """Whether it is a uniform merge of the paper's kind."""
    operator = (row.source or {}).get("operator")
    return row.kind == "uniform" and operator in PAPER and not weighs_each_expert(row)


def lines(rows: Sequence[Row]) -> list[Line]:
    """The bound, the best uniform merges by the search split, what was found, and the controls."""
    kept = [experts(rows)]
    papers = [row for row in rows if is_papers(row)]
    tuned = [row for row in rows if weighs_each_expert(row)]
    others = [row for row in rows if row.kind == "uniform" and row not in papers + tuned]
    for label, members in (
        ("best of the paper's merges", papers),
        ("best other merge", others),
        ("tuned λ per expert", tuned),
    ):
        if members:
            best = max(members, key=lambda row: row.mean("search"))
            name = "" if members is tuned else f": {best.name}"
            kept.append(_line(best, f"{label}{name}", "merge"))
    for row in rows:
        if row.kind == "found":
            kept.append(_line(row, f"found by {row.name}", "found"))
        if row.kind == "calibrated" and row.name == "found":
            kept.append(_line(row, "found, with calibrated heads", "found"))
    return kept + [_line(row, control, "control") for row in rows if (control := _control(row))]


def _control(row: Row) -> str:
    """What a control is called; nothing for rows that are none."""
    if row.kind == "expert":
        return f"expert {row.name}, on every task"
    if row.kind == "pretrained":
        return "pretrained trunk, experts' heads"
    if row.kind == "probe":
        return "pretrained trunk, heads learnt from labels"
    if row.kind == "calibrated" and row.name != "found":
        trunk = row.name == "pretrained" or row.name.startswith("expert ")
        return f"{row.name if trunk else 'best uniform merge'}, calibrated heads"
    return ""


def _line(row: Row, label: str, group: str) -> Line:
    return Line(label, group, row.search, row.test)


def experts(rows: Sequence[Row]) -> Line:
    """Each task's best expert by its search split."""
    members = [row for row in rows if row.kind == "expert"]
    search: dict[str, float] = {}
    test: dict[str, float] = {}
    for row in members:
        for task, score in row.search.items():
            if score > search.get(task, -1.0):
                search[task], test[task] = score, row.test[task]
    return Line("experts, each on its own task", "bound", search, test)


def table(of: Sequence[Line], title: str, console: Console) -> Table:
    """The lines in percent with as many columns as the console has room for: the mean on the test
    split is the last to go."""
    test = SPLITS[1:]
    choices = ((SPLITS, SPLITS), (test, SPLITS), ((), SPLITS), ((), test))
    return fitted(console, (_table(of, title, *choice) for choice in choices))


def _table(of: Sequence[Line], title: str, tasks: Sequence[str], means: Sequence[str]) -> Table:
    """With the tasks of these splits, and the means of those."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("%", max_width=LABEL)
    columns: list[tuple[str, str | None]] = []
    for split in SPLITS:
        columns += [(split, task) for task in of[0].test if split in tasks]
        columns += [(split, None)] if split in means else []
    for split, task in columns:
        style = None if task is None else "dim"
        shown.add_column(f"{split}\n{task or 'mean'}", justify="right", style=style, no_wrap=True)
    for group, style in GROUPS.items():
        members = [line for line in of if line.group == group]
        for line in members:
            cells = [_cell(line, split, task) for split, task in columns]
            shown.add_row(line.label, *cells, style=style, end_section=line is members[-1])
    return shown


def _cell(line: Line, split: str, task: str | None) -> str:
    value = line.percent(split) if task is None else 100 * getattr(line, split)[task]
    return f"{value:.1f}"


def take_away(of: Sequence[Line], examples: int) -> str:
    """What the test figures say, in one sentence.

    Args:
        of: the lines of a run.
        examples: of the test split, over all tasks; they say which differences are more than
            chance (1.96 standard errors of two independent scores).
    """
    found, *fitted = [line for line in of if line.group == "found"]
    merge = _best(of, "merge", by="search")
    said = f"the found merge scores {_figure(found)} %, {_compared(found, merge, examples)}"
    if not fitted:
        return f"{said}; {_compared(found, of[0], examples)}."
    control = _best(of, "control", by="test")
    return (
        f"{said}; with calibrated heads it has {_figure(fitted[0])}, "
        f"{_compared(fitted[0], control, examples)} and {_compared(fitted[0], of[0], examples)}."
    )


def _best(of: Sequence[Line], group: str, by: str) -> Line:
    return max((line for line in of if line.group == group), key=lambda line: line.percent(by))


def _figure(line: Line) -> str:
    return f"{line.percent('test'):.1f}"


def _compared(line: Line, other: Line, examples: int) -> str:
    """How far above or below, and whether that is more than chance."""
    a, b = line.percent("test") / 100, other.percent("test") / 100
    error = sqrt((a * (1 - a) + b * (1 - b)) / examples)
    label = "the experts" if other.group == "bound" else other.label
    name = f"{label} ({_figure(other)})"
    if abs(a - b) <= 1.96 * error:
        return f"no different from {name}"
    return f"{100 * abs(a - b):.1f} {'above' if a > b else 'below'} {name}"
