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
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from tqdm import tqdm

import agents
import merge_gym
from agents.episodes import EpisodeRecord
from experiments import pictures
from experiments.refusing import refuse
from experiments.report import (
    SPLITS,
    Row,
    found_row,
    reference_row,
    reference_sources,
    results_table,
    rows_to_json,
)
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.evaluation.journal import Journal
from merge_gym.files import replacing
from merge_gym.recipe import Source
from merge_gym.studies.selection import Selection, select


@dataclass(frozen=True)
class Run:
    """A search that is set up: everything that can be refused has been checked."""

    config: DictConfig
    directory: Path
    core: ModelMergeEnv
    agent: agents.Agent
    references: dict[str, Source]


@dataclass(frozen=True)
class Outcome:
    """A search that is over.

    Attributes:
        episodes: what the agent did.
        selection: which recipe was kept, and what choosing it cost.
        rows: every expert, every uniform merge and, last, the found recipe.
    """

    episodes: list[EpisodeRecord]
    selection: Selection
    rows: list[Row]


def prepare(config: DictConfig, directory: Path) -> Run:
    """Open suite, environment and agent; ValueError or OSError for what does not fit."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    torch.set_num_threads(config.threads)
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
        evaluation=plain["evaluation"],
        mapped=config.mapped,
        **plain["reward"],
    )
    core = env.unwrapped
    name = plain["agent"].pop("name")
    agent = agents.make(name, env, config.seed, directory, **plain["agent"])
    return Run(config, directory, core, agent, reference_sources(core.bank, plain["baselines"]))


def execute(run: Run) -> Outcome:
    """Search, choose among the top recipes on the full search split, score all on both splits."""
    episodes = run.agent.search(run.config.episodes, resume=run.config.resume is not None)
    with Journal(run.core.evaluator, run.directory / "scores.jsonl") as evaluator:
        selection = select(
            episodes, evaluator, top=run.config.top, also=[run.agent.greedy_recipe()]
        )
        found = found_row(run.config.agent.name, selection.best, evaluator)
        rows = []
        for name, source in tqdm(run.references.items(), desc="merges", disable=None):
            rows.append(reference_row(name, source, run.core.bank, evaluator))
            _release(run.core, source)
    return Outcome(episodes, selection, [*rows, found])


def _release(core: ModelMergeEnv, source: Source) -> None:
    """Make room for the next uniform merge and for the export: nothing more is scored that is made
    of this one."""
    if isinstance(core.evaluator, merge_gym.Evaluator):
        core.evaluator.release(source)


def write(run: Run, outcome: Outcome) -> None:
    """Write results, pictures and checkpoints into the run's folder."""
    recipe, found = outcome.selection.best, outcome.rows[-1]
    _write_text(run.directory / "results.json", json.dumps(results(run, outcome), indent=2))
    _write_text(run.directory / "recipe.json", recipe.to_json())
    pictures.save(curve(run, outcome), run.directory / "learning_curve.png")
    title = f"found recipe, {run.core.suite.name}, seed {run.config.seed}"
    pictures.save(
        pictures.found_map(recipe, run.core.bank, title), run.directory / "merging_map.png"
    )
    scores = {split: getattr(found, split) for split in SPLITS}
    merge_gym.export(recipe, run.core.suite, run.directory / "checkpoint", scores)


def results(run: Run, outcome: Outcome) -> dict[str, Any]:
    """What results.json holds; nothing in it depends on the clock."""
    return {
        "suite": run.core.suite.name,
        "digest": run.core.suite.digest,
        "agent": run.config.agent.name,
        "seed": run.config.seed,
        "episodes": len(outcome.episodes),
        "evaluation_cost": {
            "search": sum(episode.evaluation_cost for episode in outcome.episodes),
            "selection": outcome.selection.evaluation_cost,
        },
        "rows": rows_to_json(outcome.rows),
    }


def curve(run: Run, outcome: Outcome) -> pictures.Figure:
    """The learning curve beside the best uniform merge and the found recipe."""
    scored = [episode for episode in outcome.episodes if episode.scores]
    uniform = [row for row in outcome.rows if row.kind == "uniform"]
    best = max(uniform, key=lambda row: row.mean("search"))
    return pictures.learning_curve(
        [episode.raw_reward for episode in scored],
        [episode.reward for episode in scored],
        {
            f"best uniform merge: {best.name}": 100 * best.mean("search"),
            "found recipe": 100 * outcome.rows[-1].mean("search"),
        },
        window=run.config.subsets,
    )


def settings(config: DictConfig, directory: Path) -> DictConfig:
    """The settings of the run in `directory`: its own if it is resumed, else `config`."""
    file = directory / "config.yaml"
    if config.resume is None:
        if file.exists():
            raise ValueError(
                f"{directory} already holds a run: give resume={directory} to go on with it, or "
                f"another run_dir"
            )
        return config
    if not file.is_file():
        raise ValueError(f"{directory} holds no run (no config.yaml), so none can go on there")
    return cast(DictConfig, OmegaConf.merge(OmegaConf.load(file), {"resume": config.resume}))


@hydra.main(version_base=None, config_path="../conf", config_name="train")
def main(config: DictConfig) -> None:
    """Run one search from its configuration."""
    started = time.perf_counter()
    directory = Path(HydraConfig.get().runtime.output_dir)
    try:
        config = settings(config, directory)
        run = prepare(config, directory)
        _write_text(directory / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    except (ValueError, OSError) as error:
        refuse(error, directory)
    try:
        outcome = execute(run)
        write(run, outcome)
    except OSError as error:
        raise SystemExit(f"error: {error}; resume={directory} goes on with this run") from None
    sizes = " and ".join(f"{run.core.evaluator.cost(split):,} {split}" for split in SPLITS)
    title = f"{run.core.suite.name}, {config.agent.name}, seed {config.seed}: {sizes} examples"
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(results_table(outcome.rows, title))
    console.print(f"{directory} ({time.perf_counter() - started:.0f} s)", soft_wrap=True)


def _write_text(file: Path, text: str) -> None:
    with replacing(file) as temporary:
        temporary.write_text(text)


OmegaConf.register_new_resolver("first", lambda *values: next(v for v in values if v is not None))

if __name__ == "__main__":
    main()
