"""Merge a suite's experts without a search: one operator everywhere, or a recipe that is there.

    python -m experiments.merge suite=my-suite.yaml operator=ties output=merged
    python -m experiments.merge suite=my-suite.yaml 'operator={name: ties, density: 0.3}'
    python -m experiments.merge suite=my-suite.yaml recipe=runs/a-run/recipe.json

Writes Hugging Face checkpoints, recipe.json, a model card, and mergekit.yaml where mergekit can say
it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

import merge_gym
from merge_gym.evaluation.engine import Evaluator
from merge_gym.evaluation.scorer import mean_over_tasks
from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Recipe


def open_recipe(config: DictConfig) -> tuple[LayerBank, Recipe]:
    """The suite's candidates, and the recipe; ValueError or OSError for what does not fit."""
    if (config.operator is None) == (config.recipe is None):
        raise ValueError(
            "what is to be merged? Give operator=<its name>, or recipe=<a recipe.json>"
        )
    torch.set_num_threads(config.threads)
    suite = merge_gym.load_suite(config.suite, config.mapped)
    if config.recipe is not None:
        bank = LayerBank(suite)
        return bank, bank.resolve(Recipe.from_json(Path(config.recipe).read_text()))
    plain: Any = OmegaConf.to_container(config, resolve=True)
    bank = LayerBank(suite, operators=[plain["operator"]])
    return bank, Recipe.uniform(bank.candidates.names[-1], bank)


def scored(bank: LayerBank, recipe: Recipe, device: str) -> dict[str, dict[str, float]]:
    """{split: {task: metric}}, printed as well."""
    scorer = Evaluator(bank, subsets=1, device=device)
    scores = {split: scorer.score(recipe, split) for split in ("search", "test")}
    for split, values in scores.items():
        each = ", ".join(f"{task} {100 * value:.1f}" for task, value in values.items())
        print(f"{split}: {100 * mean_over_tasks(values):.1f} % ({each})")
    return scores


@hydra.main(version_base=None, config_path="../conf", config_name="merge")
def main(config: DictConfig) -> None:
    """Write one merged model."""
    try:
        bank, recipe = open_recipe(config)
        scores = scored(bank, recipe, config.device) if config.scores and bank.suite.tasks else None
        print(merge_gym.export(recipe, bank.suite, config.output, scores))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
