"""The searching programs on the tiny suite, in this process and in others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from agents.episodes import read_episodes
from experiments import running, search, train
from merge_gym.studies.progress import budget_bar

ROOT = Path(__file__).parents[2]
QUICK = {
    "train": ["episodes=24", "top=3", "subsets=5", "baselines=[average]"],
    "search": ["budget=12", "subsets=5", "baselines=[average]"],
}


def configuration(program: str, suite: Path, *overrides: str) -> DictConfig:
    """What the program is asked, as by its command line."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return compose(program, [f"suite={suite}", *QUICK[program], *overrides])


def run(program: str, suite: Path, directory: Path, *overrides: str) -> Path:
    """Run a program in this process; returns the run's folder."""
    directory.mkdir(parents=True, exist_ok=True)
    config = configuration(program, suite, *overrides)
    if program == "train":
        running.execute(config, directory, train.prepare, train.curve)
    else:
        running.execute(config, directory, search.prepare, search.progress, budget_bar)
    return directory


def command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"experiments.{program}", *arguments]


def call(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    return subprocess.run(
        command(program, *arguments), capture_output=True, text=True, cwd=ROOT, check=False
    )


def results(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "results.json").read_text())


def found(directory: Path) -> dict[str, Any]:
    """The row of what was found."""
    return next(row for row in results(directory)["rows"] if row["kind"] == "found")


def assert_same_run(one: Path, other: Path) -> None:
    """All that two runs found and tried is equal; their clocks are not looked at."""
    for name in ("results.json", "recipe.json", "trials.jsonl", "study.json"):
        assert (one / name).read_text() == (other / name).read_text(), name
    if (one / "episodes.jsonl").exists():
        assert _episodes(one) == _episodes(other)


def _episodes(directory: Path) -> list[dict[str, Any]]:
    records = read_episodes(directory / "episodes.jsonl")
    return [{**vars(record), "seconds": 0} for record in records]
