"""Train an agent on a suite and keep the best merged model it finds.

    python -m experiments.train                              # PPO on the default suite
    python -m experiments.train -m seed=0,1,2 agent=ppo,random
    python -m experiments.train suite=path/to/suite.yaml operators=paper episodes=300
    python -m experiments.train resume=runs/2026-01-31_12-00-00

A run's folder holds config.yaml, episodes.jsonl, results.json, recipe.json, learning_curve.png,
merging_map.png, the exported checkpoints, TensorBoard logs and what `resume` needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

import agents
from agents.episodes import read_episodes
from agents.in_environment import EPISODES
from experiments import pictures, running
from experiments.report import Row, found
from experiments.running import Run
from merge_gym.spaces.walk import Walk


def prepare(config: DictConfig, directory: Path) -> Run:
    """Open suite, environment and agent; ValueError or OSError for what does not fit."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    settings = dict(plain["agent"])
    name = settings["name"]
    if "episodes" not in agents.settings_of(name):
        raise ValueError(
            f"{name} plays no episodes: it searches by python -m experiments.search agent={name}"
        )
    settings |= {"episodes": config.episodes, "top": config.top}
    settings["environment"] = plain["environment"] | {"reward": plain["reward"]}
    return running.prepare(
        config,
        directory,
        make_space=lambda bank: Walk(bank.candidates),
        make_agent=lambda: agents.make(**settings),
    )


def curve(run: Run, rows: list[Row]) -> None:
    """Draw the learning curve beside the best uniform merge and the found recipe."""
    episodes = read_episodes(run.directory / EPISODES)
    scored = [episode for episode in episodes if episode.scores]
    uniform = [row for row in rows if row.kind == "uniform"]
    best = max(uniform, key=lambda row: row.mean("search"))
    figure = pictures.learning_curve(
        [episode.raw_reward for episode in scored],
        [episode.reward for episode in scored],
        {
            f"best uniform merge: {best.name}": 100 * best.mean("search"),
            "found recipe": 100 * found(rows).mean("search"),
        },
        window=run.config.subsets,
        title=f"{run.bank.suite.name}, {run.config.agent.name}, seed {run.config.seed}",
    )
    pictures.save(figure, run.directory / "learning_curve.png")


@hydra.main(version_base=None, config_path="../conf", config_name="train")
def main(config: DictConfig) -> None:
    """Run one search from its configuration."""
    running.launch(config, prepare, curve)


if __name__ == "__main__":
    main()
