"""Search a space of merges with a budget and keep the best merged model that is found.

    python -m experiments.search                             # a Gaussian process, layer by layer
    python -m experiments.search space=walk budget=70
    python -m experiments.search -m seed=0,1,2 space=walk,layerwise
    python -m experiments.search space=walk agent=random
    python -m experiments.search resume=runs/2026-01-31_12-00-00

The budget is in full evaluations of the search split, everything included. A run's folder holds
config.yaml, trials.jsonl, results.json, recipe.json, merging_map.png, progress.png, the exported
checkpoints and what `resume` needs.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

import agents
from experiments import pictures, running
from experiments.report import Row
from experiments.running import Run
from merge_gym import spaces
from merge_gym.studies.progress import budget_bar


def prepare(config: DictConfig, directory: Path) -> Run:
    """Open suite, space and agent; ValueError or OSError for what does not fit."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    if isinstance(config.budget, bool | str | None) or not 0 < config.budget < math.inf:
        raise ValueError(f"budget is a number of full evaluations above 0, got {config.budget!r}")
    return running.prepare(
        config,
        directory,
        make_space=lambda bank: spaces.make(candidates=bank.candidates, **plain["space"]),
        make_agent=lambda: agents.make(**plain["agent"]),
        budget=config.budget,
    )


def progress(run: Run, rows: list[Row]) -> None:
    """Draw the best full score over what was spent."""
    uniform = [row for row in rows if row.kind == "uniform"]
    best = max(uniform, key=lambda row: row.mean("search"))
    figure = pictures.progress_curve(
        run.study.trials,
        run.study.full_cost,
        {f"best uniform merge: {best.name}": 100 * best.mean("search")},
        title=f"{run.bank.suite.name}, {run.config.agent.name}, seed {run.config.seed}",
    )
    pictures.save(figure, run.directory / "progress.png")


@hydra.main(version_base=None, config_path="../conf", config_name="search")
def main(config: DictConfig) -> None:
    """Run one search from its configuration."""
    running.launch(config, prepare, progress, budget_bar)


if __name__ == "__main__":
    main()
