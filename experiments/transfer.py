"""What learning on other suites' tables buys a search on one that it has not seen.

    python -m experiments.transfer 'tables=[fashion-halves-0,fashion-halves-1,my-table.safetensors]'

Leaves one table out after the other, learns a prior on the rest (`agents.priors`), and runs the
actor-critic over edits on the table that was left out, with that prior and without, at the same
seeds and budgets. Regret is in points below the table's optimum on the search split.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import hydra
import numpy as np
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from agents.priors import learn_prior
from experiments.benchmarking.plan import Job, Plan, open_table
from experiments.benchmarking.playing import play
from experiments.benchmarking.results import score
from experiments.benchmarking.statistics import (
    Estimate,
    Values,
    estimate,
    improvement,
    interquartile_mean,
)
from experiments.tables import fitted, screen
from merge_gym.files import replacing

AGENT = "edit_actor_critic"


def learn_priors(plan: Plan, directory: Path) -> dict[str, Path]:
    """{table: the prior that was learnt on all others}"""
    files = {}
    for place, left_out in enumerate(plan.tables):
        others = [open_table(name, plan.subsets) for name in plan.tables if name != left_out]
        files[left_out] = directory / f"prior-{place}.json"
        learn_prior(others).save(files[left_out])
    return files


def regrets(plan: Plan, directory: Path) -> Iterator[tuple[float, Values, Values]]:
    """For each budget, the regrets without and with a prior, each of shape (tables, seeds)."""
    priors = learn_priors(plan, directory)
    with tqdm(total=2 * sum(1 for _ in plan.jobs()), unit="run") as bar:
        for budget in plan.budgets:
            found = np.zeros((2, len(plan.tables), plan.seeds))
            for place in np.ndindex(found.shape):
                with_prior, row, seed = place
                table = plan.tables[row]
                told = json.dumps({"prior": str(priors[table])} if with_prior else {})
                found[place] = _regret(Job(AGENT, AGENT, told, table, budget, seed, plan.subsets))
                bar.update()
            yield budget, found[0], found[1]


def _regret(job: Job) -> float:
    table = open_table(job.table, job.subsets)
    return max(100 * table.optimum()[1] - score(table, play(job).found), 0.0)


def comparison(
    tables: Sequence[str], budgets: Sequence[tuple[float, Values, Values]], console: Console
) -> Table:
    """A row for each table and budget, and one for all tables; with intervals where there is room
    for them."""
    return fitted(console, (_comparison(tables, budgets, of) for of in (True, False)))


def _comparison(
    tables: Sequence[str], budgets: Sequence[tuple[float, Values, Values]], intervals: bool
) -> Table:
    shown = Table(
        title="regret without and with a prior learnt on the other tables, interquartile mean",
        title_justify="left",
    )
    for column in ("left out", "budget", "without", "with", "with is better"):
        justify: Literal["left", "right"] = "left" if column == "left out" else "right"
        shown.add_column(column, justify=justify, no_wrap=True)
    for budget, without, learnt in budgets:
        for row, table in enumerate(tables):
            ours, theirs = learnt[row : row + 1], without[row : row + 1]
            name = Path(table).name.split(".")[0]
            shown.add_row(name, *_cells(budget, theirs, ours, intervals))
        cells = _cells(budget, without, learnt, intervals)
        shown.add_row("all", *cells, style="bold", end_section=True)
    return shown


def _cells(budget: float, without: Values, learnt: Values, intervals: bool) -> list[str]:
    means = [estimate(interquartile_mean, values) for values in (without, learnt)]
    figures = [*means, improvement(learnt, without)]
    return [f"{budget:g}", *(_figure(of, intervals) for of in figures)]


def _figure(of: Estimate, interval: bool) -> str:
    return f"{of.value:.2f}" + (f" ({of.low:.2f}–{of.high:.2f})" if interval else "")


def write(
    tables: Sequence[str], budgets: Sequence[tuple[float, Values, Values]], file: Path
) -> None:
    """A row for each run."""
    with replacing(file) as temporary, temporary.open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(("table", "budget", "seed", "prior", "regret"))
        for budget, *both in budgets:
            for prior, values in zip((False, True), both, strict=True):
                for (row, seed), regret in np.ndenumerate(values):
                    rows.writerow((tables[row], budget, seed, prior, round(float(regret), 4)))


@hydra.main(version_base=None, config_path="../conf", config_name="transfer")
def main(config: DictConfig) -> None:
    """Leave each table out once, and print what the others taught."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    directory = Path(to_absolute_path(plain.pop("directory")))
    try:
        plan = Plan.read(plain | {"agents": {AGENT: {}}})
        if len(plan.tables) < 2:
            raise ValueError(f"at least two tables are needed, got {plain['tables']}")
        directory.mkdir(parents=True, exist_ok=True)
        results = list(regrets(plan, directory))
        write(plan.tables, results, directory / "results.csv")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    console = screen()
    console.print(comparison(plan.tables, results, console))


if __name__ == "__main__":
    main()
