"""Calibrate the heads of what a run found, as a last step: unlabelled search inputs, no gradients.

    python -m experiments.calibrate run=runs/2026-01-31_12-00-00
    python -m experiments.calibrate run=runs/2026-01-31_12-00-00 examples=50

Writes the calibrated recipe and its checkpoints into a new folder below the run's, results.json and
accuracy.png: beside it stand the controls, trunks that are no merge and calibrated alike.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import hydra
from omegaconf import DictConfig, OmegaConf

import merge_gym
from experiments import pictures
from experiments.accuracy_picture import accuracy_figure
from experiments.builders.files import new_directory
from experiments.glance import lines, table, take_away
from experiments.report import SPLITS, Row, calibrated_rows, rows_from_json, rows_to_json
from experiments.running import open_bank
from experiments.tables import screen
from merge_gym.evaluation.engine import Evaluator
from merge_gym.files import write_text
from merge_gym.merging.bank import LayerBank
from merge_gym.merging.calibration import check_calibration
from merge_gym.recipe import Calibration, Recipe

FILES = ("config.yaml", "results.json", "recipe.json")


def open_run(folder: Path, calibration: Calibration) -> tuple[LayerBank, Evaluator, Recipe]:
    """The candidates, what scores them, and what the run found.

    Raises ValueError or OSError where no run has finished there, or its heads cannot be calibrated.
    """
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ValueError(f"{folder} holds no run that has finished (no {', '.join(missing)})")
    recipe = Recipe.from_json((folder / "recipe.json").read_text())
    if recipe.heads is not None:
        raise ValueError(f"the recipe in {folder} has calibrated heads already: {recipe.heads}")
    bank, scorer = open_bank(cast(DictConfig, OmegaConf.load(folder / "config.yaml")))
    check_calibration(calibration, bank.suite)
    return bank, scorer, recipe


def write(recipe: Recipe, bank: LayerBank, rows: list[Row], run: Path, directory: Path) -> None:
    """Leave the calibrated recipe, its checkpoints, results and the picture in `directory`."""
    of = json.loads((run / "results.json").read_text())
    results = of | {"heads": recipe.to_dict()["heads"], "rows": rows_to_json(rows)}
    write_text(directory / "results.json", json.dumps(results, indent=2))
    write_text(directory / "recipe.json", recipe.to_json())
    figure = accuracy_figure(lines(rows), f"{bank.suite.name}, {of['agent']}, seed {of['seed']}")
    pictures.save(figure, directory / "accuracy.png")
    [found] = [row for row in rows if (row.kind, row.name) == ("calibrated", "found")]
    scores = {split: getattr(found, split) for split in SPLITS}
    merge_gym.export(recipe, bank.suite, directory / "checkpoint", scores)


@hydra.main(version_base=None, config_path="../conf", config_name="calibrate")
def main(config: DictConfig) -> None:
    """Calibrate one run's recipe."""
    try:
        if config.run is None:
            raise ValueError("whose heads? Give run=<the folder of a run that has finished>")
        run, calibration = Path(config.run), Calibration(config.examples, config.ridge, config.seed)
        bank, scorer, recipe = open_run(run, calibration)
        output = Path(config.output or run / f"calibrated-{config.examples}")
        before = rows_from_json(json.loads((run / "results.json").read_text())["rows"])
        kept = [row for row in before if row.kind != "calibrated"]
        with new_directory(output) as directory:
            rows = [*kept, *calibrated_rows(kept, recipe, bank, scorer, calibration)]
            write(replace(recipe, heads=calibration), bank, rows, run, directory)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    shown, console = lines(rows), screen()
    title = f"{bank.suite.name}: heads calibrated on {config.examples} unlabelled examples a task"
    console.print(table(shown, title, console))
    console.print(f"To take away: {take_away(shown, scorer.whole_cost('test'))}")
    console.print(str(output), soft_wrap=True)


if __name__ == "__main__":
    main()
