"""What every program that searches does: open, search, report, write."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

import merge_gym
from agents import Agent
from experiments import pictures
from experiments.accuracy_picture import accuracy_figure
from experiments.configs import differences
from experiments.glance import lines, table, take_away
from experiments.refusing import refuse
from experiments.report import (
    SPLITS,
    Row,
    found,
    found_row,
    head_rows,
    reference_row,
    reference_sources,
    rows_to_json,
)
from experiments.tables import screen
from merge_gym.evaluation.cluster import ClusterScorer
from merge_gym.evaluation.engine import Evaluator
from merge_gym.evaluation.opening import open_engine
from merge_gym.evaluation.ray_workers import RayWorkers, identity
from merge_gym.evaluation.scorer import Scorer
from merge_gym.files import write_text
from merge_gym.merging.bank import LayerBank
from merge_gym.messages import unknown_name
from merge_gym.recipe import Calibration, Source
from merge_gym.spaces.modular import Modular
from merge_gym.spaces.space import Space
from merge_gym.studies.study import Study

RESULTS = "results.json"
"""Written last: where it is, a run has finished."""


@dataclass(frozen=True)
class Run:
    """A search that is set up: everything that can be refused has been checked.

    Attributes:
        config: as the program was asked.
        directory: the run's folder.
        bank: the suite's candidates.
        study: space, scorer and budget.
        agent: what searches.
        references: experts and uniform merges that stand beside the found recipe, by name.
    """

    config: DictConfig
    directory: Path
    bank: LayerBank
    study: Study
    agent: Agent
    references: Mapping[str, Source]


def open_bank(config: DictConfig, **more: Any) -> tuple[LayerBank, Evaluator]:
    """The candidates of the suite that a configuration names, and what scores them.

    Args:
        config: with `suite`, `mapped`, `operators`, `heads`, `evaluation`, `subsets`, `device`,
            `threads`.
        **more: settings of `LayerBank` beside those.
    """
    engine = open_engine(**_opening(config), **more)
    return engine.bank, engine


def _opening(config: DictConfig) -> dict[str, Any]:
    """What `open_engine` takes, here and on a worker."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    names = ("suite", "subsets", "device", "evaluation", "mapped", "threads")
    opening = {name: plain[name] for name in names}
    return opening | {
        "operators": plain["operators"]["bank"],
        "heads": _calibration(plain["heads"]),
    }


def open_scorer(config: DictConfig, engine: Evaluator) -> Scorer:
    """What a search asks: the engine here, or the workers of a cluster."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    settings = dict(plain.get("scorer", {"name": "engine"}))  # runs begun before there were others
    name = settings.pop("name")
    if name not in ("engine", "ray"):
        raise ValueError(unknown_name("scorer", name, ("engine", "ray")))
    if name == "engine":
        return engine
    opening = _opening(config)
    if opening["suite"] not in merge_gym.list_suites():
        opening["suite"] = str(Path(opening["suite"]).absolute())
    make = partial(open_engine, **opening)
    return ClusterScorer(engine, RayWorkers(make, identity(engine), **settings))


def _calibration(given: Any) -> Calibration | None:
    if given is None:
        return None
    try:
        return Calibration(**given)
    except TypeError:
        names = ", ".join(of.name for of in fields(Calibration))
        raise ValueError(f"heads is null, or a mapping of {names}; got {given!r}") from None


def prepare(
    config: DictConfig,
    directory: Path,
    make_space: Callable[[LayerBank], Space],
    make_agent: Callable[[], Agent],
    budget: float | None = None,
) -> Run:
    """Open everything; ValueError or OSError for what does not fit.

    Args:
        config: with `suite`, `operators`, `evaluation`, `subsets`, `baselines`, `seed`, `resume`.
        directory: the run's folder.
        make_space: what may be decided, of the suite's candidates.
        make_agent: what searches.
        budget: in full evaluations; None for no bound.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    agent = make_agent()
    bank, engine = open_bank(config)
    references = reference_sources(bank, plain["baselines"])
    space = make_space(bank)
    if isinstance(space, Modular):
        raise ValueError("the modular space spells libraries: run python -m experiments.modular")
    scorer = open_scorer(config, engine)
    examples = None if budget is None else round(budget * scorer.whole_cost())
    agent.check(Study(space, scorer, examples, config.seed))
    resume = config.resume is not None
    study = Study(space, scorer, examples, config.seed, directory, resume)
    return Run(config, directory, bank, study, agent, references)


def report(run: Run) -> list[Row]:
    """Every reference, the found recipe, and some of them with other heads, on both splits; nothing
    of it is charged."""
    rows = [
        reference_row(name, source, run.bank, run.study.reporter)
        for name, source in tqdm(run.references.items(), desc="merges", disable=None)
    ]
    recipe = run.study.best().recipe
    rows.append(found_row(run.config.agent.name, recipe, run.study.reporter))
    return [*rows, *head_rows(rows, recipe, run.bank, run.study.reporter)]


def results(run: Run, rows: list[Row]) -> dict[str, Any]:
    """What results.json holds; nothing in it depends on the clock."""
    return {
        "suite": run.bank.suite.name,
        "digest": run.bank.suite.digest,
        "agent": run.config.agent.name,
        "space": type(run.study.space).__name__,
        "seed": run.config.seed,
        "trials": len(run.study.trials),
        "evaluation_cost": run.study.spent,
        "full_cost": run.study.full_cost,
        "rows": rows_to_json(rows),
    }


def write(run: Run, rows: list[Row]) -> None:
    """Write recipe, pictures and checkpoints into the run's folder."""
    best = run.study.best()
    write_text(run.directory / "recipe.json", best.recipe.to_json())
    title = f"found recipe, {run.bank.suite.name}, seed {run.config.seed}"
    picture = pictures.found_picture(best.recipe, run.bank, title)
    pictures.save(picture, run.directory / "merging_map.png")
    figure = accuracy_figure(lines(rows), f"{run.bank.suite.name}, {run.config.agent.name}")
    pictures.save(figure, run.directory / "accuracy.png")
    scores = {split: getattr(found(rows), split) for split in SPLITS}
    clear_unfinished(run.directory)
    merge_gym.export(best.recipe, run.bank.suite, run.directory / "checkpoint", scores)


def clear_unfinished(directory: Path) -> None:
    """Remove the checkpoints that a killed process of this run was writing; the caller holds the
    folder's lock, so no other process does."""
    for left in directory.glob(".checkpoint-*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)


def show(run: Run, rows: list[Row], started: float) -> None:
    """Print the table, what to take away, and where the run lies."""
    reporter, shown = run.study.reporter, lines(rows)
    sizes = " and ".join(f"{reporter.whole_cost(split):,} {split}" for split in SPLITS)
    spent = run.study.spent / run.study.full_cost
    title = (
        f"{run.bank.suite.name}, {run.config.agent.name}, seed {run.config.seed}: "
        f"{spent:.1f} full evaluations; {sizes} examples"
    )
    console = screen()
    console.print(table(shown, title, console))
    console.print(f"To take away: {take_away(shown, reporter.whole_cost('test'))}")
    console.print(f"{run.directory} ({time.perf_counter() - started:.0f} s)", soft_wrap=True)


def settings(config: DictConfig, directory: Path, sweep: Path | None = None) -> DictConfig:
    """The settings of the run in `directory`: its own if it is resumed, else `config`.

    Args:
        config: as the program was asked.
        directory: the run's folder.
        sweep: the folder of the sweep that it belongs to; a run of it that was not begun is begun,
            and one that was must be asked as it was.
    """
    file = directory / "config.yaml"
    if config.resume is None or (sweep is not None and not file.exists()):
        if file.exists():
            raise ValueError(
                f"{directory} already holds a run: give resume={directory} to go on with it, or "
                f"another run_dir"
            )
        return config
    if not file.is_file():
        raise ValueError(f"{directory} holds no run (no config.yaml), so none can go on there")
    begun = OmegaConf.load(file)
    if differ := sorted(map(str, set(config) ^ set(begun))):
        raise ValueError(
            f"{directory} holds a run of another program or version, its config.yaml differs in "
            f"{', '.join(differ)}: go on with the one that began it"
        )
    same = cast(DictConfig, OmegaConf.merge(begun, {"resume": config.resume}))
    if sweep is not None and (differ := differences(same, config)):
        raise ValueError(
            f"{directory} was begun with {', '.join(differ)}: a sweep is resumed by the "
            f"command that began it, with resume={sweep}"
        )
    return same


class Interrupted(SystemExit):
    """The program was told to stop."""


def launch(
    config: DictConfig,
    prepared: Callable[[DictConfig, Path], Run],
    finish: Callable[[Run, list[Row]], None],
    watching: Callable[[Study], AbstractContextManager[object]] = nullcontext,
) -> None:
    """`execute` in the folder that Hydra made; in a sweep, a run that has finished is passed over,
    and one that cannot be done does not end the others."""
    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    if hydra.mode != RunMode.MULTIRUN:
        execute(config, directory, prepared, finish, watching)
        return
    sweep = Path(hydra.sweep.dir)
    if config.resume is not None and (directory / RESULTS).exists():
        print(f"{directory} has finished")
        return
    try:
        execute(config, directory, prepared, finish, watching, sweep)
    except Interrupted:
        raise SystemExit(f"interrupted; resume={sweep} goes on with this sweep") from None
    except SystemExit as end:
        print(end.code, file=sys.stderr)
        raise CompactHydraException(str(end.code)) from None


def execute(
    config: DictConfig,
    directory: Path,
    prepared: Callable[[DictConfig, Path], Run],
    finish: Callable[[Run, list[Row]], None],
    watching: Callable[[Study], AbstractContextManager[object]] = nullcontext,
    sweep: Path | None = None,
) -> None:
    """The whole of a program: set up, search, report; one line for what cannot be done, and for a
    search that was interrupted how it goes on.

    Args:
        config: as the program was asked.
        directory: the run's folder.
        prepared: sets up the run.
        finish: writes what the program adds to the files of every run.
        watching: what is entered while it searches, such as a progress bar.
        sweep: the folder of the sweep that the run belongs to.
    """
    started = time.perf_counter()
    try:
        config = settings(config, directory, sweep)
        run = prepared(config, directory)
        write_text(directory / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    except (ValueError, OSError) as error:
        refuse(error, directory)
    try:
        with run.study:
            with watching(run.study):
                run.agent.search(run.study)
            rows = report(run)
            write(run, rows)
            finish(run, rows)
            write_text(directory / RESULTS, json.dumps(results(run, rows), indent=2))
            show(run, rows, started)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; resume={directory} goes on with this run") from None
    except OSError as error:
        raise SystemExit(f"error: {error}; resume={directory} goes on with this run") from None
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


OmegaConf.register_new_resolver(
    "first", lambda *values: next(v for v in values if v is not None), replace=True
)
