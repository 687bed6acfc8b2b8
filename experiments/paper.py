r"""The paper's tables, its figures beside those of runs here.

    python -m experiments.train -m suite=fashion-halves-0,fashion-halves-1,fashion-halves-2 \
        seed=0,1,2 run_dir=runs/paper-1
    python -m experiments.paper I runs/paper-1

    python -m experiments.train -m subsets=1,10,100 reward=dynamic_average,plain \
        run_dir=runs/paper-4
    python -m experiments.paper IV runs/paper-4

Tables I (halves of one data set), II (two domains) and III (text) compare merges; table IV and
figure 3 take 100, 10 and 1 % of the data for a reward, with the dynamic average reward and without.
All figures are means over tasks on the test split, in percent. docs/paper.md says what differs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from agents.episodes import EpisodeRecord, read_episodes
from agents.in_environment import EPISODES
from experiments import pictures
from experiments.configs import flat
from experiments.glance import experts, is_papers
from experiments.paper_figures import ABLATION, HOURS, METHODS, PUBLISHED, RATIOS
from experiments.report import Row, found, rows_from_json
from experiments.running import RESULTS
from experiments.summarise import spread
from experiments.tables import screen

OPERATORS = ("average", "task_arithmetic", "ties", "dare")
"""Those of METHODS between the first and the last."""

PASS = 100
"""Episodes over which figure 3 takes its running mean."""


@dataclass(frozen=True)
class PaperRun:
    """A finished run of `experiments.train`.

    Attributes:
        suite: its name.
        ratio: percent of the search split in a reward.
        smoothed: whether the reward is the dynamic average one.
        rows: of its report.
        episodes: in order.
    """

    suite: str
    ratio: float
    smoothed: bool
    rows: Sequence[Row]
    episodes: Sequence[EpisodeRecord]

    @classmethod
    def read(cls, folder: Path) -> PaperRun:
        """The run in a folder; ValueError where it is none of `experiments.train`."""
        data: dict[str, Any] = json.loads((folder / RESULTS).read_text())
        config = flat(cast(DictConfig, OmegaConf.load(folder / "config.yaml")))
        if "reward.name" not in config:
            raise ValueError(f"{folder} is no run of experiments.train")
        return cls(
            suite=data["suite"],
            ratio=100 / config["subsets"],
            smoothed=config["reward.name"] == "dynamic_average",
            rows=rows_from_json(data["rows"]),
            episodes=read_episodes(folder / EPISODES),
        )

    @property
    def hours(self) -> float:
        """What its episodes took by the clock."""
        return sum(episode.seconds for episode in self.episodes) / 3600

    def figures(self) -> dict[str, float]:
        """The test figure of each of METHODS that stands in the report; of an operator that stands
        there with several settings that of the best on the search split."""
        figures = {METHODS[0]: experts(self.rows).percent("test")}
        for method, operator in zip(METHODS[1:-1], OPERATORS, strict=True):
            alike = [row for row in self.rows if is_papers(row) and _operator(row) == operator]
            if alike:
                best = max(alike, key=lambda row: row.mean("search"))
                figures[method] = 100 * best.mean("test")
        return figures | {METHODS[-1]: 100 * found(self.rows).mean("test")}


def _operator(row: Row) -> str:
    return str((row.source or {})["operator"])


def methods_table(number: str, runs: Sequence[PaperRun]) -> Table:
    """Tables I to III: a row for each method, the paper's columns, then one for each suite."""
    suites = sorted({run.suite for run in runs})
    table = Table(
        title=f"table {number}, test, %; the paper's figures left, this project's right",
        title_justify="left",
    )
    table.add_column("")
    for name in (*PUBLISHED[number], *suites):
        table.add_column(name, justify="right", max_width=16)
    for at, method in enumerate(METHODS):
        published = [f"{figures[at]:.1f}" for figures in PUBLISHED[number].values()]
        ours = [_cell([run for run in runs if run.suite == name], method) for name in suites]
        table.add_row(method, *published, *ours, style="bold" if method == "RMM" else None)
    return table


def ablation_table(runs: Sequence[PaperRun]) -> Table:
    """Table IV: the paper's row above this project's, with and without DAR; then the times."""
    table = Table(
        title="table IV, test, %; rewards on this share of the data", title_justify="left"
    )
    table.add_column("")
    for ratio in RATIOS:
        table.add_column(f"{ratio} %", justify="right")
    for label, published in ABLATION.items():
        table.add_row(f"paper, {label}", *(f"{figure:.1f}" for figure in published), style="dim")
        of = [_at(runs, ratio, label == "with DAR") for ratio in RATIOS]
        table.add_row(f"here, {label}", *(_cell(at, METHODS[-1]) for at in of))
    table.add_section()
    ours = [[run.hours for run in runs if run.ratio == ratio] for ratio in RATIOS]
    whole = fmean(ours[0]) if ours[0] else None
    table.add_row("paper, hours", *(f"{hours:.2f}" for hours in HOURS), style="dim")
    table.add_row("here, minutes", *(f"{60 * fmean(at):.2f}" if at else "–" for at in ours))
    table.add_row("paper, speed-up", *(f"{HOURS[0] / hours:.1f}" for hours in HOURS), style="dim")
    quicker = [f"{whole / fmean(at):.1f}" if at and whole else "–" for at in ours]
    table.add_row("here, speed-up", *quicker)
    return table


def _at(runs: Sequence[PaperRun], ratio: float, smoothed: bool) -> list[PaperRun]:
    return [run for run in runs if (run.ratio, run.smoothed) == (ratio, smoothed)]


def _cell(runs: Sequence[PaperRun], method: str) -> str:
    """A method's test figure over runs, mean ± standard deviation."""
    figures = [of[method] for run in runs if method in (of := run.figures())]
    return spread(figures) if figures else "–"


def rewards_figure(runs: Mapping[str, PaperRun]) -> Figure:
    """Figure 3: the reward that the agent saw, episode by episode, with a running mean."""
    figure = Figure(figsize=(8, 3.2 * len(runs)), dpi=110, layout="constrained")
    for axes, (label, run) in zip(
        figure.subplots(len(runs), sharex=True, squeeze=False).flat, runs.items(), strict=True
    ):
        rewards = [episode.reward for episode in run.episodes if episode.scores]
        axes.plot(rewards, color="tab:blue", linewidth=0.6, alpha=0.6, label="reward")
        if len(rewards) >= PASS:
            mean = np.convolve(rewards, np.ones(PASS) / PASS, "valid")
            axes.plot(
                range(PASS - 1, len(rewards)),
                mean,
                color="tab:orange",
                linewidth=2,
                label=f"mean of the last {PASS}",
            )
        axes.set_title(f"{run.suite}, {run.ratio:g} % of the data, {label}", loc="left")
        axes.set_ylabel("reward")
        axes.grid(color="0.92")
        axes.legend(loc="lower right", fontsize="small")
    axes.set_xlabel("scored episode")
    return figure


def write_rewards(runs: Sequence[PaperRun], file: Path) -> None:
    """Draw figure 3 from the first runs at the smallest share of the data that was run."""
    smallest = min(run.ratio for run in runs)
    shown = {label: at[0] for label in ABLATION if (at := _at(runs, smallest, label == "with DAR"))}
    pictures.save(rewards_figure(shown), file)


def main() -> None:
    """Print one of the paper's tables with the runs of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", choices=[*PUBLISHED, "IV"], help="of the paper")
    parser.add_argument("folder", type=Path, help="of runs of experiments.train, at any depth")
    asked = parser.parse_args()
    try:
        runs = [PaperRun.read(file.parent) for file in sorted(asked.folder.rglob(RESULTS))]
        if not runs:
            raise ValueError(f"no {RESULTS} below {asked.folder}: no run has finished there")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    console = screen()
    if asked.table == "IV":
        console.print(ablation_table(runs))
        file = asked.folder / "rewards.png"
        write_rewards(runs, file)
        console.print(f"figure 3: {file}", soft_wrap=True)
    else:
        console.print(methods_table(asked.table, runs))


if __name__ == "__main__":
    main()
