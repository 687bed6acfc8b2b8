"""Train an agent on a suite and keep the best merged model it finds.

    python -m experiments.train                              # PPO on the default suite
    python -m experiments.train -m seed=0,1,2 agent=ppo,random
    python -m experiments.train suite=path/to/suite.yaml operators=paper episodes=300
    python -m experiments.train resume=runs/2026-01-31_12-00-00

A run's folder holds config.yaml, episodes.jsonl, results.json, recipe.json, learning_curve.png,
merging_map.png, the exported checkpoints, TensorBoard logs and what `resume` needs.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from tqdm import tqdm

import agents
import merge_gym
from agents.episodes import EpisodeRecorder, read_episodes
from agents.journal import ScoreJournal
from agents.selection import Selection, select
from experiments import pictures
from experiments.report import (
    Row,
    found_row,
    reference_row,
    reference_sources,
    results_table,
    rows_to_json,
)
from merge_gym.env import ModelMergeEnv
from merge_gym.files import replacing
from merge_gym.recipe import Recipe, Source

console = Console()


@dataclass(frozen=True)
class Run:
    """A search that is set up: everything that can be refused has been checked."""

    config: DictConfig
    directory: Path
    env: gym.Env
    agent: agents.Agent
    references: dict[str, Source]

    @property
    def core(self) -> ModelMergeEnv:
        return self.env.unwrapped


def prepare(config: DictConfig, directory: Path) -> Run:
    """Open suite, environment and agent; ValueError or FileNotFoundError for what does not fit."""
    torch.set_num_threads(config.threads)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    env = gym.make(
        "ModelMerge-v0",
        suite=config.suite,
        operators=plain["operators"]["bank"],
        subsets=config.subsets,
        observe_cursor=config.observe_cursor,
        max_steps=config.max_steps,
        max_depth=config.max_depth,
        invalid_reward=config.invalid_reward,
        device=config.device,
        **plain["reward"],
    )
    core = env.unwrapped
    references = reference_sources(core.bank, plain["baselines"])
    core.evaluator = ScoreJournal(core.evaluator, directory / "scores.jsonl")
    env = EpisodeRecorder(env, directory / "episodes.jsonl")
    name = plain["agent"].pop("name")
    agent = agents.make(name, env, config.seed, directory, **plain["agent"])
    return Run(config, directory, env, agent, references)


def search(run: Run) -> Selection:
    """Let the agent search, then score its top recipes on the full search split, keep the best."""
    run.agent.search(run.config.episodes, resume=run.config.resume is not None)
    episodes = read_episodes(run.directory / "episodes.jsonl")
    return select(episodes, run.core.evaluator, top=run.config.top, extra=run.agent.greedy())


def report(run: Run, selection: Selection) -> list[Row]:
    """Score everything on both splits and write the run's results, pictures and checkpoints."""
    bank, evaluator = run.core.bank, run.core.evaluator
    rows = [
        reference_row(name, source, bank, evaluator)
        for name, source in tqdm(run.references.items(), desc="scoring merges", disable=None)
    ]
    found = found_row(run.config.agent.name, selection.recipe, evaluator)
    rows.append(found)
    write_results(run, selection, rows)
    draw(run, rows, selection.recipe)
    merge_gym.export(
        selection.recipe,
        run.core.suite,
        run.directory / "checkpoint",
        scores={"search": found.search, "test": found.test},
    )
    return rows


def write_results(run: Run, selection: Selection, rows: list[Row]) -> None:
    """Write results.json (nothing in it depends on the clock) and recipe.json."""
    episodes = read_episodes(run.directory / "episodes.jsonl")
    results = {
        "suite": run.core.suite.name,
        "digest": run.core.suite.digest,
        "agent": run.config.agent.name,
        "seed": run.config.seed,
        "episodes": len(episodes),
        "evaluation_cost": {
            "search": sum(episode.evaluation_cost for episode in episodes),
            "selection": selection.evaluation_cost,
        },
        "rows": rows_to_json(rows),
    }
    for name, text in {
        "results.json": json.dumps(results, indent=2),
        "recipe.json": selection.recipe.to_json(),
    }.items():
        with replacing(run.directory / name) as temporary:
            temporary.write_text(text)


def draw(run: Run, rows: list[Row], recipe: Recipe) -> None:
    """Write learning_curve.png and merging_map.png."""
    scored = [e for e in read_episodes(run.directory / "episodes.jsonl") if e.scores]
    uniform = max((row for row in rows if row.kind == "uniform"), key=lambda r: r.mean("search"))
    marks = {
        f"best uniform merge: {uniform.name}": 100 * uniform.mean("search"),
        "found recipe, full search split": 100 * rows[-1].mean("search"),
    }
    curve = pictures.learning_curve(
        [episode.raw_reward for episode in scored],
        [episode.reward for episode in scored],
        marks,
        window=run.config.subsets,
    )
    pictures.save(curve, run.directory / "learning_curve.png")
    title = f"found recipe, {run.core.suite.name}, seed {run.config.seed}"
    pictures.save(
        pictures.found_map(recipe, run.core.bank, title), run.directory / "merging_map.png"
    )


def settings(config: DictConfig) -> tuple[DictConfig, Path]:
    """The run's settings and folder; a resumed run brings its own."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    file = directory / "config.yaml"
    if config.resume is not None:
        if not file.is_file():
            raise ValueError(f"{directory} holds no run (no config.yaml), so none can go on there")
        saved = OmegaConf.create(OmegaConf.load(file))
        saved.resume = config.resume
        return saved, directory
    if file.exists():
        raise ValueError(
            f"{directory} already holds a run: give resume={directory} to go on with it, or "
            f"another run_dir"
        )
    return config, directory


@hydra.main(version_base=None, config_path="../conf", config_name="train")
def main(config: DictConfig) -> None:
    """Run one search from its configuration."""
    started = time.perf_counter()
    try:
        config, directory = settings(config)
        run = prepare(config, directory)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"error: {error}") from None
    with replacing(directory / "config.yaml") as temporary:
        temporary.write_text(OmegaConf.to_yaml(config, resolve=True))
    selection = search(run)
    rows = report(run, selection)
    sizes = {split: run.core.evaluator.cost(split) for split in ("search", "test")}
    title = f"{run.core.suite.name}, {config.agent.name}, seed {config.seed}"
    console.print(results_table(rows, sizes, title))
    console.print(f"{directory} ({time.perf_counter() - started:.0f} s)", soft_wrap=True)


OmegaConf.register_new_resolver("first", lambda *values: next(v for v in values if v is not None))

if __name__ == "__main__":
    main()
