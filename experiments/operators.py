"""Every operator on one suite: its uniform merge's scores, what it costs, how far they lie apart.

    python -m experiments.operators suite=fashion-halves-0

Prints a table and writes operators.json and distances.png into the run's folder.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
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
from tqdm import tqdm

import merge_gym
from experiments.pictures import save
from experiments.report import Row, reference_row
from merge_gym import operators
from merge_gym.bank import LayerBank
from merge_gym.files import replacing

STATUS = Path("/proc/self/status")
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Cost:
    """What building one operator's merge of every parameter took.

    Attributes:
        seconds: CPU time of the process.
        mebibytes: growth of the peak resident memory; None where the system does not tell.
    """

    seconds: float
    mebibytes: float | None


def fitting(bank: LayerBank) -> tuple[list[str], dict[str, str]]:
    """The operators that can merge this suite's experts, and why the others cannot."""
    names, refused = [], {}
    for name in operators.available():
        try:
            operators.check(name, {}, len(bank.suite.experts))
            names.append(name)
        except ValueError as error:
            refused[name] = str(error)
    return names, refused


def build(name: str, bank: LayerBank) -> Cost:
    """Merge every parameter with one operator, measuring time and memory."""
    _reset_peak()
    before, started = _resident("VmRSS"), time.process_time()
    bank.parameters(bank.source(name))
    seconds, after = time.process_time() - started, _resident("VmHWM")
    return Cost(seconds, None if before is None or after is None else (after - before) / MEBIBYTE)


def distances(names: list[str], bank: LayerBank) -> NDArray[np.float64]:
    """‖a − b‖ between every two merges, relative to the mean norm of the task vectors; (n, n)."""
    flats = torch.stack([bank.parameters(bank.source(name)).flat for name in names])
    pretrained = bank.suite.pretrained.parameters.flat
    experts = [expert.parameters.flat for expert in bank.suite.experts.values()]
    unit = torch.stack([(expert - pretrained).norm() for expert in experts]).mean()
    return (torch.cdist(flats[None], flats[None])[0] / unit).double().numpy()


def distance_figure(matrix: NDArray[np.float64], names: list[str]) -> Figure:
    """The distances as a picture."""
    side = 2.5 + 0.36 * len(names)
    figure = Figure(figsize=(side, side), dpi=110)
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_title("distance between merges, in task-vector norms", loc="left", fontsize="medium")
    figure.colorbar(image, shrink=0.7)
    figure.set_layout_engine("tight")
    return figure


def cost_table(rows: list[Row], costs: dict[str, Cost], title: str) -> Table:
    """Scores on the search split in percent, best first, beside what each merge cost."""
    tasks = list(rows[0].search)
    table = Table(title=title, title_justify="left")
    table.add_column("operator")
    for column in (*tasks, "mean", "CPU seconds", "peak MiB"):
        table.add_column(column, justify="right")
    for row in sorted(rows, key=lambda row: -row.mean("search")):
        cost = costs[row.name]
        table.add_row(
            row.name,
            *(f"{100 * row.search[task]:.1f}" for task in tasks),
            f"{100 * row.mean('search'):.1f}",
            f"{cost.seconds:.3f}",
            "–" if cost.mebibytes is None else f"{cost.mebibytes:.1f}",
        )
    return table


@hydra.main(version_base=None, config_path="../conf", config_name="operators_report")
def main(config: DictConfig) -> None:
    """Build, score and compare every operator's uniform merge."""
    torch.set_num_threads(config.threads)
    try:
        bank = LayerBank(merge_gym.load_suite(config.suite), operators=[])
        evaluator = merge_gym.Evaluator(bank, subsets=1, device=config.device)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"error: {error}") from None
    directory = Path(HydraConfig.get().runtime.output_dir)
    names, refused = fitting(bank)
    rows, costs = [], {}
    for name in tqdm(names, desc="operators", disable=None):
        costs[name] = build(name, bank)
        rows.append(reference_row(name, bank.source(name), bank, evaluator))
    console = Console()
    console.print(cost_table(rows, costs, f"{bank.suite.name}, uniform merges, search split, %"))
    for name, reason in refused.items():
        console.print(f"{name}: {reason}")
    save(distance_figure(distances(names, bank), names), directory / "distances.png")
    with replacing(directory / "operators.json") as temporary:
        report = [asdict(row) | {"cost": asdict(costs[row.name])} for row in rows]
        temporary.write_text(json.dumps(report, indent=2))
    console.print(str(directory), soft_wrap=True)


def _reset_peak() -> None:
    """Let VmHWM start again from what is resident now (Linux)."""
    if STATUS.exists():
        STATUS.with_name("clear_refs").write_text("5")


def _resident(field: str) -> int | None:
    """Resident memory in bytes: `VmRSS` now, `VmHWM` at the peak."""
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


if __name__ == "__main__":
    main()
