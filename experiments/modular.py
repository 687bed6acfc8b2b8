"""Search which experts share which modules; the front of accuracy against storage, and a library.

    python -m experiments.modular
    python -m experiments.modular agent=nsga2 seed=1
    python -m experiments.modular agent.residual=sign quantise=4 router=means features=pixels
    python -m experiments.modular resume=runs/2026-01-31_12-00-00 point=1.5

The budget is in full evaluations of the search split. A run's folder holds config.yaml,
trials.jsonl, results.json, front.png, modules.png, the library of the chosen point and what
`resume` needs; with another `point` it exports that one too.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

import agents
from agents import Agent
from agents.sharing import grouped_by_likeness, kept_ends
from experiments import pictures, running
from experiments.modular_pictures import front_figure, modules_figure
from experiments.refusing import refuse
from experiments.tables import screen
from merge_gym import Evaluator, LayerBank, Library, Scorer, Study, spaces
from merge_gym.evaluation.scorer import mean_over_tasks
from merge_gym.exports.library import LibraryModel, export_library, load_library
from merge_gym.files import write_text
from merge_gym.library import PRECISIONS
from merge_gym.merging.router import FEATURES, KINDS, read_features, train_router
from merge_gym.messages import unknown_name
from merge_gym.spaces.modular import Modular
from merge_gym.studies.front import Point, area, hypervolume, pareto, within
from merge_gym.studies.progress import budget_bar

BOUNDS = (1.1, 1.25, 1.5, 2.0)
BATCH = 256


@dataclass(frozen=True)
class Row:
    """A library in the table.

    Attributes:
        name: what it is; `found` ones are of the search.
        models, bytes: its storage, heads in the bytes.
        scores: {split: {task: metric}}.
    """

    name: str
    models: float
    bytes: int
    scores: dict[str, dict[str, float]]

    def mean(self, split: str) -> float:
        return mean_over_tasks(self.scores[split])


@dataclass(frozen=True)
class Run:
    """A search of libraries that is set up; see `running.Run`."""

    config: DictConfig
    directory: Path
    bank: LayerBank
    space: Modular
    study: Study
    agent: Agent


def prepare(config: DictConfig, directory: Path) -> Run:
    """Open everything; ValueError or OSError for what does not fit."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    for name in ("budget", "point"):
        value = config[name]
        if isinstance(value, bool | str | None) or not 0 < value < math.inf:
            raise ValueError(f"{name} is a number above 0, got {value!r}")
    if config.point < 1:
        raise ValueError(f"a library takes at least one model, got point={config.point}")
    for name, known in (("router", KINDS), ("features", FEATURES)):
        if config[name] not in known:
            raise ValueError(unknown_name(name, str(config[name]), known))
    agent = agents.make(**plain["agent"])
    bank, scorer = running.open_bank(config, shared="average", bits=config.quantise)
    tasks = bank.suite.tasks
    if {of.expert for of in tasks.values()} != set(tasks):
        raise ValueError("the modular space needs a task for each expert, by the same name")
    space = spaces.make(candidates=bank.candidates, **plain["space"])
    if not isinstance(space, Modular):
        raise ValueError(f"this program searches the modular space, not {config.space.name!r}")
    examples = round(config.budget * scorer.whole_cost())
    agent.check(Study(space, scorer, examples, config.seed))
    study = Study(space, scorer, examples, config.seed, directory, config.resume is not None)
    return Run(config, directory, bank, space, study, agent)


def row(name: str, library: Library, bank: LayerBank, scorer: Scorer) -> Row:
    """A library's storage and its scores on both splits."""
    storage, heads = library.storage(bank, bank.bits), heads_bytes(bank)
    scores = {split: scorer.score(library, split) for split in ("search", "test")}
    return Row(name, storage.models, storage.bytes + heads, scores)


def heads_bytes(bank: LayerBank) -> int:
    """What the heads of all tasks take."""
    experts = [bank.suite.experts[of.expert] for of in bank.suite.tasks.values()]
    return sum(tensor.nbytes for expert in experts for tensor in expert.head.values())


def archive(run: Run) -> list[Point]:
    """Every library that was scored on the whole search split."""
    return [
        Point(of.recipe.storage(run.bank).models, of.mean, of.recipe)
        for of in run.study.trials
        if of.subsets is None
    ]


def controls(run: Run, method: str) -> list[Row]:
    """What must stand beside the front: merges, experts in bits, residuals, families by rule."""
    space, bank, scorer = run.space, run.bank, run.study.reporter
    everything = space.groupings[0]
    rows = [
        row(f"all merged, {name}", space.recipe(space.everywhere(everything, name)), bank, scorer)
        for name in space.methods
    ]
    if space.residuals:
        for word in ("sign", "rank"):
            said = "1 bit" if word == "sign" else f"rank {space.rank}"
            library = space.recipe(space.everywhere(everything, method, word))
            rows.append(row(f"{method} + {said} residuals", library, bank, scorer))
    families = {
        "first kept": kept_ends(space, method, True),
        "last kept": kept_ends(space, method, False),
        "likeness": grouped_by_likeness(space, method),
    }
    for name, path in families.items():
        libraries = [space.recipe(decisions) for decisions in path[:: max(1, len(path) // 20)]]
        scored = [Point(of.storage(bank).models, _mean(scorer.score(of)), of) for of in libraries]
        rows += bounded(name, scored, bank, scorer)
    return [*rows, *quantised_experts(run)]


def bounded(name: str, points: list[Point], bank: LayerBank, scorer: Scorer) -> list[Row]:
    """The best on the search split of each storage bound, each once."""
    smallest = min(point.storage for point in points)
    chosen = {
        within(points, bound).library: bound for bound in reversed(BOUNDS) if smallest <= bound
    }
    return [
        row(f"{name}, at most {bound:g}", library, bank, scorer)
        for library, bound in reversed(chosen.items())
    ]


def quantised_experts(run: Run) -> list[Row]:
    """All experts in every precision: the control of every front."""
    library, rows = run.space.recipe(run.space.starts()["experts"]), []
    for bits in PRECISIONS:
        bank = LayerBank(run.bank.suite, ["average"], "average", bits=bits)
        scorer = Evaluator(bank, run.config.subsets, run.config.device, 2**27)
        rows.append(
            row(f"experts, {f'int{bits}' if bits else 'as they are'}", library, bank, scorer)
        )
    return rows


def export(run: Run, point: Point) -> tuple[LibraryModel, dict[str, Any]]:
    """Write the library of a point with its router, read it again; what that model scores."""
    folder = run.directory / f"library-{run.config.point:g}"
    export_library(point.library, run.bank, folder)
    model, tasks = load_library(folder), run.bank.suite.tasks
    first: Any = model.models[0]
    adapter = run.bank.suite.adapter
    with torch.inference_mode():
        features = {
            task: read_features(run.config.features, adapter, first, of.splits["search"].inputs)
            for task, of in tasks.items()
        }
    router = train_router(
        {task: of.clone() for task, of in features.items()},
        run.config.features,
        run.config.router,
        run.config.seed,
    )
    export_library(point.library, run.bank, folder, router)
    model = load_library(folder)
    return model, {"point": run.config.point, "models": point.storage, **served(model, tasks)}


def served(model: LibraryModel, tasks: Any) -> dict[str, Any]:
    """Test scores of a model that was read from disk, with the task given and routed."""
    given, routed, told = {}, {}, {}
    for task, of in tasks.items():
        split = of.splits["test"]
        labels = split.labels.tolist()
        known = model.predict(split.inputs, [task] * len(labels))
        found = model.predict(split.inputs)
        given[task] = _share(one[1] == label for one, label in zip(known, labels, strict=True))
        routed[task] = _share(one == (task, y) for one, y in zip(found, labels, strict=True))
        told[task] = _share(one[0] == task for one in found)
    return {"given": given, "routed": routed, "told": told}


def speed(model: LibraryModel, tasks: Any) -> dict[str, float]:
    """Examples per CPU second of mixed batches by chain, and of one task's model alone."""
    splits = {task: of.splits["test"] for task, of in tasks.items()}
    each = min(BATCH // len(splits), *(len(of.labels) for of in splits.values()))
    names = [task for task in splits for _ in range(each)]
    inputs = {
        name: torch.cat([of.inputs[name][:each] for of in splits.values()])
        for name in next(iter(splits.values())).inputs
    }
    rates = {}
    for name, told in (("by chain", names), ("one expert", [names[0]] * len(names))):
        model.predict(inputs, told)
        times = []
        for _ in range(5):
            started = time.process_time()
            model.predict(inputs, told)
            times.append(time.process_time() - started)
        rates[name] = len(names) / min(times)
    return rates


def report(run: Run) -> tuple[list[Row], dict[str, Any]]:
    """Rows of the search and its controls, and the figures of the search's front."""
    points, space, bank = archive(run), run.space, run.bank
    scores = {point.library: point.score for point in points}
    uniform = {name: scores[space.recipe(space.starts()[name])] for name in space.methods}
    method = max(uniform, key=lambda name: uniform[name])
    experts = scores[space.recipe(space.starts()["experts"])]
    rows = bounded("found", points, bank, run.study.reporter) + controls(run, method)
    count = len(bank.suite.experts)
    figures = {
        "uniform": uniform[method],
        "experts": experts,
        "area": area(points, uniform[method], experts, count),
        "hypervolume": hypervolume(points, count, uniform[method]),
    }
    return rows, figures


def finish(run: Run, started: float) -> None:
    """Everything after the search: table, pictures, library."""
    rows, figures = report(run)
    front = pareto(archive(run))
    point = within(front, run.config.point)
    model, served_scores = export(run, point)
    results = {
        "suite": run.bank.suite.name,
        "digest": run.bank.suite.digest,
        "agent": run.config.agent.name,
        "seed": run.config.seed,
        "bits": run.bank.bits,
        "trials": len(run.study.trials),
        "evaluation_cost": run.study.spent,
        "full_cost": run.study.full_cost,
        "front": [[of.storage, of.score] for of in front],
        **figures,
        "library": served_scores,
        "rows": [vars(of) for of in rows],
    }
    write_text(run.directory / "results.json", json.dumps(results, indent=2))
    title = f"{run.bank.suite.name}, {run.config.agent.name}, seed {run.config.seed}"
    pictures.save(front_figure(rows, title), run.directory / "front.png")
    map_title = f"{title}: {point.storage:.2f} models"
    picture = modules_figure(point.library, run.bank, run.space, map_title)
    pictures.save(picture, run.directory / "modules.png")
    show(run, rows, figures, served_scores, speed(model, run.bank.suite.tasks), started)


def show(
    run: Run,
    rows: list[Row],
    figures: dict[str, Any],
    served_scores: dict[str, Any],
    rates: dict[str, float],
    started: float,
) -> None:
    """Print the table and what the exported library does."""
    spent = run.study.spent / run.study.full_cost
    title = f"{run.bank.suite.name}, {run.config.agent.name}: {spent:.1f} full evaluations"
    table = Table("library", "models", "kB", "search", "test", title=title)
    for each in rows:
        means = (f"{100 * each.mean(split):.1f}" for split in ("search", "test"))
        table.add_row(each.name, f"{each.models:.2f}", f"{each.bytes / 1000:,.0f}", *means)
    console = screen()
    console.print(table)
    console.print(f"area between best uniform merge and experts: {figures['area']:.3f}")
    of = {name: 100 * _mean(served_scores[name]) for name in ("given", "routed", "told")}
    console.print(
        f"library of {served_scores['models']:.2f} models, test: task given {of['given']:.1f}, "
        f"routed {of['routed']:.1f} (router right {of['told']:.1f})"
    )
    console.print(", ".join(f"{name}: {rate:,.0f} examples/CPU s" for name, rate in rates.items()))
    console.print(f"{run.directory} ({time.perf_counter() - started:.0f} s)", soft_wrap=True)


def _mean(scores: dict[str, float]) -> float:
    return sum(scores.values()) / len(scores)


def _share(right: Any) -> float:
    hits = list(right)
    return sum(hits) / len(hits)


@hydra.main(version_base=None, config_path="../conf", config_name="modular")
def main(config: DictConfig) -> None:
    """Run one search of libraries from its configuration."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    started = time.perf_counter()
    try:
        asked = config.point
        config = running.settings(config, directory)
        config.point = asked
        run = prepare(config, directory)
        write_text(directory / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    except (ValueError, OSError) as error:
        refuse(error, directory)
    try:
        with run.study:
            with budget_bar(run.study):
                run.agent.search(run.study)
            finish(run, started)
    except KeyboardInterrupt:
        raise SystemExit(f"interrupted; resume={directory} goes on with this run") from None
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
