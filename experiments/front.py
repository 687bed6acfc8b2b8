"""What a run offers where several things are wanted at once: its Pareto set.

    python -m experiments.front run=runs/2026-01-31_12-00-00
    python -m experiments.front run=runs/2026-01-31_12-00-00 'objectives=[low,high]' 'export=[0,2]'

Of all merges that the run scored on the whole search split those are kept that no other beats in
every objective. Writes front.csv, front.png and a recipe for each point into a new folder, and
checkpoints of the points that are asked for. The test split is reported, not chosen by.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import hydra
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

import merge_gym
from experiments import pictures
from experiments.builders.files import new_directory
from experiments.running import RESULTS, open_bank
from experiments.tables import screen
from merge_gym import spaces
from merge_gym.evaluation.engine import Evaluator
from merge_gym.files import read_lines, write_text
from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Recipe
from merge_gym.studies.objectives import (
    DEPTH,
    check_objectives,
    losses_of,
    undominated,
    values_of,
)
from merge_gym.studies.study import TRIALS


@dataclass(frozen=True)
class Choice:
    """A merge of the Pareto set.

    Attributes:
        recipe: of the merge.
        search, test: its objectives on these splits.
    """

    recipe: Recipe
    search: Sequence[float]
    test: Sequence[float]


def scored_whole(folder: Path, bank: LayerBank) -> Iterator[tuple[Recipe, dict[str, float]]]:
    """Every recipe that a run scored on the whole search split, and its scores by task.

    Raises ValueError where no run has finished in the folder.
    """
    config = cast(DictConfig, OmegaConf.load(folder / "config.yaml"))
    told: Any = OmegaConf.to_container(config, resolve=True)
    space = spaces.make(candidates=bank.candidates, **told.get("space", {"name": "walk"}))
    for trial in read_lines(folder / TRIALS):
        if trial["subsets"] is None and any(trial["scores"].values()):
            if trial.get("decisions") is None:
                yield Recipe.from_dict(trial["recipe"]), trial["scores"]
            else:
                recipe = space.recipe(space.check(trial["decisions"]))
                yield cast(Recipe, recipe), trial["scores"]


def pareto_set(
    folder: Path, names: Sequence[str], bank: LayerBank, scorer: Evaluator
) -> list[Choice]:
    """The Pareto set of a run, by the first objective from its best to its worst."""
    recipes, scores = zip(*scored_whole(folder, bank), strict=True)
    values = [values_of(of, recipe, names) for recipe, of in zip(recipes, scores, strict=True)]
    losses = [losses_of(of, names) for of in values]
    return [
        Choice(
            recipe := bank.resolve(recipes[at]),
            values[at],
            values_of(scorer.score(recipe, "test"), recipe, names),
        )
        for at in sorted(undominated(losses), key=lambda at: losses[at])
    ]


def front_table(front: Sequence[Choice], names: Sequence[str], title: str) -> Table:
    """A row for each point."""
    table = Table(title=title, title_justify="left")
    table.add_column("point", justify="right")
    for split in ("search", "test"):
        for name in names:
            if (split, name) != ("test", DEPTH):
                table.add_column(name if name == DEPTH else f"{split}\n{name}", justify="right")
    for number, point in enumerate(front):
        test = [
            cell
            for cell, name in zip(_cells(point.test, names), names, strict=True)
            if name != DEPTH
        ]
        table.add_row(str(number), *_cells(point.search, names), *test)
    return table


def _cells(values: Sequence[float], names: Sequence[str]) -> list[str]:
    return [
        f"{value:g}" if name == DEPTH else f"{100 * value:.1f}"
        for value, name in zip(values, names, strict=True)
    ]


def front_figure(front: Sequence[Choice], names: Sequence[str], title: str) -> Figure:
    """The first two objectives, on both splits; each point with its number."""
    figure = Figure(figsize=(6.4, 4.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for split, style in (("search", "o-"), ("test", "s:")):
        across, along = (
            [getattr(point, split)[at] * (1 if names[at] == DEPTH else 100) for point in front]
            for at in (0, 1)
        )
        axes.plot(across, along, style, label=f"{split} split")
        for number, place in enumerate(zip(across, along, strict=True)):
            axes.annotate(str(number), place, (4, 4), textcoords="offset points", fontsize="small")
    labels = ["layers" if name == DEPTH else f"{name}, metric × 100" for name in names]
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.set_title(title, loc="left", fontsize="medium")
    axes.grid(color="0.92")
    axes.legend()
    return figure


def write(front: Sequence[Choice], names: Sequence[str], title: str, directory: Path) -> None:
    """Table, picture and a recipe for each point."""
    with (directory / "front.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ("point", *(f"{split} {name}" for split in ("search", "test") for name in names))
        )
        rows.writerows((at, *point.search, *point.test) for at, point in enumerate(front))
    pictures.save(front_figure(front, names, title), directory / "front.png")
    for number, point in enumerate(front):
        write_text(directory / f"{number}.json", point.recipe.to_json())


@hydra.main(version_base=None, config_path="../conf", config_name="front")
def main(config: DictConfig) -> None:
    """Show the Pareto set of one run."""
    try:
        if config.run is None or not (Path(config.run) / RESULTS).is_file():
            raise ValueError(f"give run=<the folder of a run that has finished>, got {config.run}")
        run, names = Path(config.run), [str(name) for name in config.objectives]
        output = Path(config.output or run / "front")
        bank, scorer = open_bank(cast(DictConfig, OmegaConf.load(run / "config.yaml")))
        check_objectives(names, list(bank.suite.tasks))
        front = pareto_set(run, names, bank, scorer)
        if beyond := [number for number in config.export if number not in range(len(front))]:
            raise ValueError(f"the front has points 0 to {len(front) - 1}, so none {beyond[0]}")
        seed = json.loads((run / RESULTS).read_text())["seed"]
        title = f"{bank.suite.name}, seed {seed}: {', '.join(names)}"
        with new_directory(output) as directory:
            write(front, names, title, directory)
            for number in config.export:
                merge_gym.export(
                    front[number].recipe, bank.suite, directory / f"checkpoint-{number}"
                )
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    console = screen()
    console.print(front_table(front, names, title))
    console.print(str(output), soft_wrap=True)


if __name__ == "__main__":
    main()
