"""What the tests of suite builders share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.progress import Progress

from experiments.build_suite import Builder
from experiments.builders.files import Result, new_directory
from merge_gym import LayerBank, Recipe, ReferenceEvaluator, load_suite

CONF = Path(__file__).parents[3] / "conf" / "build_suite"


def compose_suite(*overrides: str) -> DictConfig:
    """The builder's configuration."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def build(builder: Builder, config: DictConfig, output: Path) -> list[Result]:
    """Build a suite in `output`, as the program does."""
    with new_directory(output) as directory:
        return builder(config, directory, Progress(disable=True))


def files(directory: Path) -> dict[Path, bytes]:
    """What every file under `directory` holds."""
    found = (file for file in directory.rglob("*") if file.is_file())
    return {file.relative_to(directory): file.read_bytes() for file in found}


def check_scores(results: Sequence[Result], file: Path) -> None:
    """The library gives each expert of a suite the scores that its builder measured."""
    suite = load_suite(file)
    for row in results:
        bank = LayerBank(suite, shared=row.expert)
        evaluator = ReferenceEvaluator(bank, subsets=2)
        recipe = Recipe.uniform(row.expert, bank)
        assert evaluator.score(recipe, "search")[row.expert] == pytest.approx(row.search)
        assert evaluator.score(recipe, "test")[row.expert] == pytest.approx(row.test)
