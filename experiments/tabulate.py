"""A table of every recipe of a small suite, so that searches on it need no model.

    python -m experiments.tabulate suite=fashion-halves-0 operators=paper

    python -m experiments.tabulate test=true file=tables/small.safetensors.xz

Scores all recipes without stacking, example by example, on the search split, with `test=true` on
the test split too, and writes one file (`merge_gym.evaluation.table_file`). Walks them depth first,
so that recipes share the layers of their prefixes; a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

import merge_gym
from experiments.replaying import layer_flops, table_speed
from merge_gym.evaluation.engine import Counts, Evaluator
from merge_gym.evaluation.table import Table, count_recipes, decisions, load_table
from merge_gym.evaluation.table_file import Rows, read_rows, write_rows
from merge_gym.merging.bank import LayerBank
from merge_gym.suites.description import SPLITS


def tabulate(
    bank: LayerBank,
    file: Path,
    every: int = 2000,
    report: Callable[[int], object] = lambda done: None,
    test: bool = False,
) -> Counts:
    """Write the table of `bank` to `file`, or finish the one that is there.

    Args:
        bank: the candidates.
        file: made or continued; compressed where its name ends in `.xz`.
        every: recipes between two saves.
        report: called with the number of recipes scored so far, after each.
        test: whether it holds the test split too, for reports.

    Returns: the layer forwards asked for and executed.

    Raises ValueError where `file` is the table of another suite, of other candidates or splits, or
    a task's metric is not accuracy.
    """
    tasks = bank.suite.tasks
    if others := [task.metric for task in tasks.values() if task.metric != "accuracy"]:
        raise ValueError(f"a table holds right and wrong, so accuracy; not {', '.join(others)}")
    total = count_recipes(bank.candidates)
    splits = {split: _empty(bank, split, total) for split in SPLITS[: 1 + test]}
    evaluator = Evaluator(bank)
    for index in range(_continue(bank, file, splits), total):
        recipe = bank.candidates.recipe(
            decisions(index, len(bank.candidates), bank.candidates.depth)
        )
        for split, rows in splits.items():
            for task, values in evaluator.values(recipe, split).items():
                rows.bits[task][index] = np.packbits(values.astype(np.bool_))
        done = index + 1
        if done % every == 0 or done == total:
            write_rows(file, bank.candidates, {name: rows[:done] for name, rows in splits.items()})
        report(done)
    return evaluator.counts


def _empty(bank: LayerBank, split: str, recipes: int) -> Rows:
    labels = {name: task.splits[split].labels.numpy() for name, task in bank.suite.tasks.items()}
    bits = {task: np.zeros((recipes, -(-len(of) // 8)), np.uint8) for task, of in labels.items()}
    return Rows(bits, labels)


def _continue(bank: LayerBank, file: Path, splits: dict[str, Rows]) -> int:
    """Copy what `file` holds into `splits`; returns how many recipes that is."""
    if not file.exists():
        return 0
    candidates, there = read_rows(file)
    Table(candidates, there, subsets=1).check_candidates(bank.candidates)
    if there.keys() != splits.keys():
        raise ValueError(
            f"{file} holds the splits {', '.join(there)}, but {', '.join(splits)} were asked for: "
            f"go on as it was begun, or name another file"
        )
    done = len(there["search"])
    for split, rows in there.items():
        for task, bits in rows.bits.items():
            splits[split].bits[task][:done] = bits
    return done


def savings(counts: Counts, bank: LayerBank) -> str:
    """What the walk saved over scoring one recipe at a time, in words."""
    whole, last = layer_flops(bank)
    operations = counts.asked * whole / (counts.full * whole + counts.last * last)
    return (
        f"{operations:.0f} times fewer operations than one recipe at a time: of its layer forwards "
        f"{counts.full / counts.asked:.1%} were run, and {counts.last / counts.asked:.1%} for the "
        f"token that the head reads only"
    )


@hydra.main(version_base=None, config_path="../conf", config_name="tabulate")
def main(config: DictConfig) -> None:
    """Make or finish a table and say what is best in it."""
    torch.set_num_threads(config.threads)
    plain: Any = OmegaConf.to_container(config)
    file = Path(to_absolute_path(config.file))
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        bank = LayerBank(merge_gym.load_suite(config.suite), plain["operators"]["bank"])
        with tqdm(total=count_recipes(bank.candidates), unit="recipe", smoothing=0.01) as bar:
            counts = tabulate(
                bank, file, report=lambda done: bar.update(done - bar.n), test=config.test
            )
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"error: {error}") from None
    table = load_table(file)
    best, score = table.optimum()
    print(f"{len(table):,} recipes, {file.stat().st_size / 2**20:.1f} MiB: {config.file}")
    if counts.asked:
        print(savings(counts, bank))
    print(f"best of all: {100 * score:.1f} on the search split\n  {best}")
    for environments in (64, 1024):
        speed = table_speed(file, environments)
        print(f"{speed:,.0f} episodes a second (CPU) in {environments:,} environments on it")


if __name__ == "__main__":
    main()
