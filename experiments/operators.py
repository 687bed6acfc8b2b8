"""Every operator on one suite: its uniform merge's scores, what it costs, how far they lie apart.

    python -m experiments.operators suite=fashion-halves-0

Prints a table and writes operators.json and distances.png into the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

import merge_gym
from experiments.measuring import Cost, measure
from experiments.pictures import save
from experiments.report import Row, reference_row
from experiments.tables import fitted, screen
from merge_gym import operators
from merge_gym.evaluation.scorer import Scorer
from merge_gym.files import replacing
from merge_gym.merging.bank import LayerBank


def fitting(bank: LayerBank) -> tuple[list[str], dict[str, str]]:
    """The operators that can merge this suite's experts, and why the others cannot."""
    names, refused = [], {}
    for name in operators.available():
        try:
            bank.source(name)
            names.append(name)
        except ValueError as error:
            refused[name] = str(error)
    return names, refused


def models(names: list[str], bank: LayerBank) -> dict[str, Tensor]:
    """{name: all parameters as one vector} of the pretrained model, the experts and the merges."""
    return {
        "pretrained": bank.suite.pretrained.parameters.flat,
        **{name: expert.parameters.flat for name, expert in bank.suite.experts.items()},
        **{name: bank.parameters(bank.source(name)).flat for name in names},
    }


def distances(models: Mapping[str, Tensor], experts: int) -> NDArray[np.float64]:
    """‖a − b‖ between every two models, as a multiple of the mean norm of the task vectors; (n, n).

    The first model is the pretrained one, and `experts` experts follow it.
    """
    flats = list(models.values())
    matrix = np.zeros((len(flats), len(flats)))
    for i, j in combinations(range(len(flats)), 2):
        matrix[i, j] = matrix[j, i] = float((flats[i].float() - flats[j].float()).norm())
    return matrix / matrix[0, 1 : 1 + experts].mean()


def distance_figure(matrix: NDArray[np.float64], names: list[str]) -> Figure:
    """The distances as a picture."""
    side = 3 + 0.3 * len(names)
    figure = Figure(figsize=(side + 0.8, side), dpi=110, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_title("How far the models lie apart", loc="left")
    figure.colorbar(image, shrink=0.7, label="distance / mean norm of the task vectors")
    return figure


def score_table(rows: list[Row], costs: Mapping[str, Cost], title: str, console: Console) -> Table:
    """Accuracies in percent: the experts, then the merges, best on the search split first. Where
    there is no room, the tasks go first and the mean on the test split last."""
    tasks = list(rows[0].search)
    cost, means = ["CPU\nseconds", "peak\nMiB"], ["search\nmean", "test\nmean"]
    choices = ([*tasks, *means, *cost], [*means, *cost], means, means[1:])
    return fitted(console, (_score_table(rows, costs, title, choice) for choice in choices))


def _score_table(
    rows: list[Row], costs: Mapping[str, Cost], title: str, columns: Sequence[str]
) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("%", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    experts = [row for row in rows if row.kind == "expert"]
    merges = [row for row in rows if row.kind == "uniform"]
    for row in experts + sorted(merges, key=lambda row: -row.mean("search")):
        cells = _cells(row, costs.get(row.name))
        name = f"expert {row.name}" if row.kind == "expert" else row.name
        end = bool(experts) and row is experts[-1]
        table.add_row(name, *(cells[column] for column in columns), end_section=end)
    return table


def _cells(row: Row, cost: Cost | None) -> dict[str, str]:
    """{column: what stands there}"""
    scores = {**row.search} | {"search\nmean": row.mean("search"), "test\nmean": row.mean("test")}
    cells = {column: f"{100 * score:.1f}" for column, score in scores.items()}
    if cost is None:
        return cells | {"CPU\nseconds": "", "peak\nMiB": ""}
    memory = "–" if cost.mebibytes is None else f"{cost.mebibytes:.1f}"
    return cells | {"CPU\nseconds": f"{cost.seconds:.3f}", "peak\nMiB": memory}


def compare(bank: LayerBank, evaluator: Scorer) -> tuple[list[Row], dict[str, Cost]]:
    """Score the experts, and build and score every operator's merge of all parameters."""
    rows = [reference_row(name, bank.source(name), bank, evaluator) for name in bank.suite.experts]
    costs = {}
    for name in tqdm(fitting(bank)[0], desc="operators", disable=None):
        source = bank.source(name)
        costs[name] = measure(lambda source=source: bank.parameters(source))  # type: ignore[misc]
        rows.append(reference_row(name, source, bank, evaluator))
    return rows, costs


def write(rows: list[Row], costs: Mapping[str, Cost], bank: LayerBank, directory: Path) -> None:
    """Leave operators.json and distances.png in `directory`."""
    flats = models(list(costs), bank)
    matrix = distances(flats, len(bank.suite.experts))
    save(distance_figure(matrix, list(flats)), directory / "distances.png")
    report = {
        "suite": bank.suite.name,
        "rows": [
            asdict(row) | ({"cost": asdict(costs[row.name])} if row.name in costs else {})
            for row in rows
        ],
        "refused": fitting(bank)[1],
        "distances": {"models": list(flats), "matrix": matrix.round(6).tolist()},
    }
    with replacing(directory / "operators.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2))


def show(rows: list[Row], costs: Mapping[str, Cost], bank: LayerBank, console: Console) -> None:
    """Print the table and what belongs beside it."""
    title = f"{bank.suite.name}: uniform merges, tasks on the search split"
    console.print(score_table(rows, costs, title, console))
    if told := [name for name in costs if operators.get(name).needs]:
        console.print(
            f"The cost of {', '.join(told)} includes running the experts on their inputs."
        )
    for reason in fitting(bank)[1].values():
        console.print(f"Left out: {reason}", soft_wrap=True)


@hydra.main(version_base=None, config_path="../conf", config_name="operators_report")
def main(config: DictConfig) -> None:
    """Build, score and compare every operator's uniform merge."""
    torch.set_num_threads(config.threads)
    try:
        bank = LayerBank(merge_gym.load_suite(config.suite), operators=[])
        evaluator = merge_gym.Evaluator(bank, subsets=1, device=config.device)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    directory = Path(HydraConfig.get().runtime.output_dir)
    rows, costs = compare(bank, evaluator)
    console = screen()
    show(rows, costs, bank, console)
    write(rows, costs, bank, directory)
    console.print(str(directory), soft_wrap=True)


if __name__ == "__main__":
    main()
