"""The page: one file that needs no network, with a summary and pictures beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import yaml

import merge_gym
from experiments.benchmarking.charts import Panel, interval
from experiments.benchmarking.pictures import regrets_picture
from experiments.benchmarking.plan import PROTOCOL
from experiments.benchmarking.standings import WITHIN, Standing, Standings
from experiments.benchmarking.statistics import Estimate, performance_profile
from experiments.pictures import save
from merge_gym.files import write_text

REPORT, SUMMARY, PICTURE = "report.html", "summary.csv", "regret.png"
HERE = Path(__file__).parent
STEPS = 41
"""Points of a performance profile."""


@dataclass(frozen=True)
class Cell:
    """A cell of a sortable table: what it shows, and by what it is sorted."""

    shown: str
    value: float | str
    kind: str = ""


def write_report(standings: Standings, directory: Path) -> None:
    """Write page, summary and picture."""
    write_text(directory / REPORT, page(standings))
    write_text(directory / SUMMARY, summary(standings))
    save(regrets_picture(standings), directory / PICTURE)


def summary(standings: Standings) -> str:
    """The standings as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("budget", "agent", "runs", "regret", "low", "high", "found_optimum", "test")
    writer.writerow([*names, *(f"better_than_{other}" for other in standings.yardsticks)])
    for budget in standings.plan.budgets:
        for label in standings.labels(budget):
            at = standings.at(label, budget)
            figures = [at.regret.value, at.regret.low, at.regret.high, at.optimum, at.test]
            better = [
                standings.improvement(label, other, budget).value
                if standings.has(other, budget)
                else None
                for other in standings.yardsticks
            ]
            shown = ["" if figure is None else f"{figure:.3f}" for figure in [*figures, *better]]
            writer.writerow([f"{budget:g}", label, at.runs, *shown])
    return text.getvalue()


def page(standings: Standings) -> str:
    """The page as HTML."""
    plan = standings.plan
    runs = f"{len(plan.tables)} tables × up to {plan.seeds} seeds"
    parts = [
        "<h1>Searches for merged models, compared at equal cost</h1>",
        f"<p>Every run searches one table, in which every recipe's score is known, with a budget "
        f"of full evaluations of the search split: each example of each recipe is charged once, "
        f"final selections included. <b>Regret</b> is how many points of search accuracy the "
        f"table's best recipe has more than the one that was found: 0 is the optimum, less is "
        f"better. Figures are interquartile means over {runs}, with 95 % intervals of bootstraps "
        f"stratified by table.</p>",
        _problems(standings),
        f"<h2>Regret against cost</h2>{_curves(standings)}" if len(plan.budgets) > 1 else "",
        *(_at_budget(standings, budget) for budget in plan.budgets if standings.labels(budget)),
        f"<h2>What was run</h2><p class=note>{PROTOCOL}, merge_gym {merge_gym.__version__}; "
        f"results.csv beside this page holds every run, and <code>python -m experiments.validate "
        f"results.csv</code> replays it. The plan:</p><pre>{escape(_plan_text(standings))}</pre>",
    ]
    style, script = ((HERE / name).read_text() for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>merge_gym benchmark</title><style>\n{style}</style></head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>\n{script}</script></body></html>\n"
    )


def _plan_text(standings: Standings) -> str:
    plan = vars(standings.plan)
    return yaml.safe_dump(
        {("agents" if name == "lines" else name): value for name, value in plan.items()},
        sort_keys=False,
        default_flow_style=None,
    )


def _problems(standings: Standings) -> str:
    columns = ("table", "recipes", "optimum", "best uniform merge", "mean of all recipes")
    rows = [
        [
            _text(of.name),
            Cell(f"{of.recipes:,}", of.recipes),
            *(_number(score, 1) for score in (of.optimum, of.uniform, of.chance)),
        ]
        for of in standings.problems
    ]
    return _table(columns, rows)


def _curves(standings: Standings) -> str:
    budgets = standings.plan.budgets
    labels = standings.all_labels()
    at = {
        label: [standings.at(label, b) for b in budgets if standings.has(label, b)]
        for label in labels
    }
    most = _top(of.regret.high for several in at.values() for of in several)
    lines = {
        label: [(of.budget, of.regret.value) for of in several] for label, several in at.items()
    }
    panel = Panel(budgets, most, logarithmic=True)
    panels = [
        panel.draw(
            label,
            lines,
            label,
            band=[(of.budget, of.regret.low, of.regret.high) for of in at[label]],
            level=standings.uniform_regret,
        )
        for label in labels
    ]
    return (
        "<p class=note>Across: the budget in full evaluations, logarithmic. Up: regret in points. "
        "Bold: the agent that the plot is named after, with its interval; faint: all others; "
        "dashed: the best uniform merge. A run at each budget is a run of its own.</p>"
        f'<div class="panels">{"".join(panels)}</div>'
    )


def _at_budget(standings: Standings, budget: float) -> str:
    labels = standings.labels(budget)
    standing = [standings.at(label, budget) for label in labels]
    most = _top(of.regret.high for of in standing)
    yardsticks = [other for other in standings.yardsticks if other in labels]
    columns = [
        *(
            "agent",
            "runs",
            "regret",
            "95 % interval",
            f"0 to {most:.3g} points",
            "found the optimum",
        ),
        *(f"better than {other}" for other in yardsticks),
        *("test accuracy", f"within {WITHIN:g} point at budget", "CPU s a run"),
    ]
    rows = [_standing_row(standings, of, most, yardsticks) for of in standing]
    return (
        f"<h2>Budget of {budget:g} full evaluations</h2>{_table(columns, rows)}"
        f"<details><summary>Probability of improvement, each over each</summary>"
        f"{_improvements(standings, budget)}</details>"
        f"<details><summary>Performance profiles</summary>{_profiles(standings, budget)}</details>"
    )


def _standing_row(
    standings: Standings, at: Standing, most: float, yardsticks: Sequence[str]
) -> list[Cell]:
    near = standings.cost_to_near(at.label)
    return [
        _text(at.label),
        _number(at.runs, 0),
        _number(at.regret.value, 2),
        Cell(f"{at.regret.low:.2f} – {at.regret.high:.2f}", at.regret.high),
        Cell(interval(at.regret, most, standings.uniform_regret), at.regret.value, "plot"),
        _share(at.optimum),
        *(_better(standings.improvement(at.label, other, at.budget)) for other in yardsticks),
        _number(at.test, 2),
        _number(near, 0),
        _number(at.seconds, 2),
    ]


def _improvements(standings: Standings, budget: float) -> str:
    labels = standings.labels(budget)
    rows = [
        [
            _text(label),
            *(
                Cell("", "")
                if label == other
                else _better(standings.improvement(label, other, budget))
                for other in labels
            ),
        ]
        for label in labels
    ]
    return (
        "<p class=note>How likely a run of the row's agent has less regret than one of the "
        "column's, on the same table, equals counting half. Bold where the interval leaves out "
        "½.</p>" + _table(["better …", *labels], rows)
    )


def _profiles(standings: Standings, budget: float) -> str:
    labels = standings.labels(budget)
    most = _top(float(standings.regrets(label, budget).max()) for label in labels)
    thresholds = np.linspace(0, most, STEPS)
    lines = {
        label: list(
            zip(
                thresholds.tolist(),
                performance_profile(standings.regrets(label, budget), thresholds).tolist(),
                strict=True,
            )
        )
        for label in labels
    }
    panel = Panel([most * part / 4 for part in range(5)], 1, percent=True)
    panels = "".join(panel.draw(label, lines, label) for label in labels)
    return (
        "<p class=note>The share of runs (up) with at most so many points of regret "
        f'(across).</p><div class="panels">{panels}</div>'
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    head = "".join(f"<th><button>{escape(column)}</button></th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    kind = f' class="{cell.kind}"' if cell.kind else ""
    return f'<td{kind} data-value="{escape(str(cell.value))}">{cell.shown}</td>'


def _text(words: str) -> Cell:
    return Cell(escape(words), words)


def _number(value: float | None, digits: int) -> Cell:
    return Cell("–", "") if value is None else Cell(f"{value:.{digits}f}", value)


def _share(value: float) -> Cell:
    return Cell(f"{100 * value:.0f} %", value)


def _better(estimate: Estimate) -> Cell:
    sure = estimate.low > 0.5 or estimate.high < 0.5
    shown = f"{estimate.value:.2f}"
    return Cell(f"<strong>{shown}</strong>" if sure else shown, estimate.value)


def _top(values: Iterable[float]) -> float:
    """The end of an axis that holds them and is divided into four."""
    largest = max([*values, 0.4])
    ends = [one * 10**power for power in range(-1, 3) for one in (4, 6, 8, 12, 16, 20, 28)]
    return min(end for end in ends if end >= largest)
