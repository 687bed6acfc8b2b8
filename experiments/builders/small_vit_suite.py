"""Building a suite of small vision models: pretrain, fine-tune the experts, write everything.

One pretrained checkpoint is shared by one set of experts per seed; each set gets a suite file of
its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import Progress
from torch import Tensor

from experiments.builders.files import Result, plain, save_model, save_rows, save_suite_file
from experiments.builders.image_sources import LabelledImages, read_images
from experiments.builders.small_vit_training import (
    Examples,
    ViTForImageClassification,
    accuracy,
    new_model,
    start_from,
    train,
)
from experiments.builders.training import Optimiser
from experiments.builders.tuning import best_weights, evaluations
from merge_gym import operators

Models = Mapping[str, ViTForImageClassification]
Parts = Mapping[str, LabelledImages]
"""A source's `train` and `test` images."""


@dataclass(frozen=True)
class Task:
    """One task's classes and its rows in the source, in the one fixed order.

    Attributes:
        name: of the task and of its expert.
        source: which of `data.sources` it is taken from.
        classes: the source's class numbers in the order of the head.
        names: their names.
        pretraining: training rows that the common ancestor is trained on, if it is trained on the
            tasks' sources.
        pool: training rows that experts may be trained on, shape (n,).
        search, test: rows of the splits, of the source's training and test images.
    """

    name: str
    source: str
    classes: tuple[int, ...]
    names: tuple[str, ...]
    pretraining: NDArray[np.int64]
    pool: NDArray[np.int64]
    search: NDArray[np.int64]
    test: NDArray[np.int64]

    def training_rows(self, count: int, seed: int) -> NDArray[np.int64]:
        """The rows that the set with this seed trains on, shape (count,)."""
        return np.random.default_rng(seed).permutation(self.pool)[:count]


def deal_task(name: str, data: DictConfig, images: Parts) -> Task:
    """Choose a task's rows of its source; ValueError where the source has too few."""
    source, classes = data.tasks[name].source, tuple(data.tasks[name].classes)
    names = tuple(data.sources[source].classes[number] for number in classes)
    order = np.random.default_rng(data.shuffle)
    rows = order.permutation(np.flatnonzero(np.isin(images["train"].labels, classes)))
    held_out = order.permutation(np.flatnonzero(np.isin(images["test"].labels, classes)))
    pretraining = data.pretraining.get("images_per_task", 0)
    needed = data.search + pretraining + data.train
    if len(rows) < needed or len(held_out) < data.test:
        raise ValueError(
            f"task {name!r} needs {needed} training images (data.search + data.train, and those of "
            f"the pretraining) and {data.test} test images (data.test) of the classes "
            f"{', '.join(names)}; the source has {len(rows)} and {len(held_out)}"
        )
    search, common, pool = np.split(rows, [data.search, data.search + pretraining])
    return Task(name, source, classes, names, common, pool, search, held_out[: data.test])


def pretraining_images(
    data: DictConfig, tasks: Sequence[Task], images: Mapping[str, Parts]
) -> LabelledImages:
    """What the common ancestor is trained on: all training images of a source of its own, some of
    each task, or those of `classes` that no task has; the classes of one source or task numbered
    after those of another."""
    if "classes" in data.pretraining:
        trained = {name: images[name]["train"] for name in data.pretraining.classes}
        rows = {
            name: np.flatnonzero(np.isin(part.labels, data.pretraining.classes[name]))
            for name, part in trained.items()
        }
        parts = [
            (trained[name][rows[name][: data.pretraining.images]], tuple(numbers))
            for name, numbers in data.pretraining.classes.items()
        ]
    elif "images_per_task" in data.pretraining:
        parts = [(images[task.source]["train"][task.pretraining], task.classes) for task in tasks]
    else:
        return read_images(data.pretraining, "train")
    return _joined(parts)


def _joined(parts: Sequence[tuple[LabelledImages, tuple[int, ...]]]) -> LabelledImages:
    """Images of several lots, with the classes of each in the order of its head."""
    labels, first = [], 0
    for part, classes in parts:
        places = {number: first + place for place, number in enumerate(classes)}
        labels.append(np.array([places[int(label)] for label in part.labels]))
        first += len(classes)
    return LabelledImages(
        np.concatenate([part.images for part, _ in parts]), np.concatenate(labels)
    )


def pretrain(
    config: DictConfig, images: LabelledImages, advance: Callable[[], None]
) -> ViTForImageClassification:
    """Train the common ancestor."""
    classes = sorted({int(label) for label in images.labels})
    model = new_model(config.model, [str(number) for number in classes], config.pretraining.seed)
    train(
        model,
        Examples.of(images, classes),
        config.pretraining.learning_rate,
        config.pretraining.epochs,
        Optimiser(**config.optimiser),
        config.pretraining.seed,
        advance,
    )
    return model


def fine_tune(
    task: Task,
    images: LabelledImages,
    pretrained: ViTForImageClassification,
    config: DictConfig,
    seed: int,
    advance: Callable[[], None],
) -> ViTForImageClassification:
    """Train the expert of `task` in the set with this seed."""
    model = new_model(config.model, task.names, seed)
    start_from(model, pretrained)
    train(
        model,
        Examples.of(images[task.training_rows(config.data.train, seed)], task.classes),
        config.experts[task.name].learning_rate,
        config.experts[task.name].epochs,
        Optimiser(**config.optimiser),
        seed,
        advance,
    )
    return model


def tune_weights(
    pretrained: ViTForImageClassification,
    experts: Models,
    examples: Mapping[str, Examples],
    grid: Sequence[float],
    advance: Callable[[], None],
) -> tuple[list[float], float]:
    """The λ per expert of the best task arithmetic, as `best_weights` finds them.

    Returns:
        λ in the order of `experts`, and the mean accuracy over the tasks it was chosen for.
    """
    base = pretrained.vit.state_dict()
    tensors = [expert.vit.state_dict() for expert in experts.values()]
    merged = {name: _with_head(pretrained, expert) for name, expert in experts.items()}

    def score(weights: tuple[float, ...]) -> float:
        values = {key: _arithmetic(key, base, tensors, weights) for key in base}
        for model in merged.values():
            model.vit.load_state_dict(values)
        advance()
        return sum(accuracy(merged[name], examples[name]) for name in merged) / len(merged)

    best, reached = best_weights(score, grid, len(tensors))
    return list(best), reached


def _arithmetic(
    key: str,
    base: Mapping[str, Tensor],
    tensors: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float],
) -> Tensor:
    experts = [expert[key] for expert in tensors]
    return operators.merge("task_arithmetic", base[key], experts, weight=list(weights))


def _with_head(
    pretrained: ViTForImageClassification, expert: ViTForImageClassification
) -> ViTForImageClassification:
    """A copy of the expert whose trunk is the pretrained one."""
    with torch.random.fork_rng(devices=[]):
        model = ViTForImageClassification(expert.config)
    model.load_state_dict(expert.state_dict())
    start_from(model, pretrained)
    return model.eval()


def describe(
    config: DictConfig, tasks: Sequence[Task], seed: int, weights: list[float], score: float
) -> dict[str, Any]:
    """The suite file of one set."""
    tuned = {"name": "task_arithmetic", "weight": weights}
    return {
        "name": f"{config.name}-{seed}",
        "description": f"{config.description.strip()} Expert set of seed {seed}.",
        "licence": config.licence,
        "pretrained": "pretrained",
        "experts": {task.name: f"set-{seed}/{task.name}" for task in tasks},
        "tasks": {
            task.name: {
                "expert": task.name,
                "metric": "accuracy",
                "columns": {"input": "image", "label": "label"},
                "data": {
                    split: f"data/{task.name}-{split}.parquet" for split in ("search", "test")
                },
            }
            for task in tasks
        },
        "operators": [*plain(config.operators), tuned],
        "shared": tuned,
        "provenance": _provenance(config, seed, weights, score),
    }


def _provenance(
    config: DictConfig, seed: int, weights: list[float], score: float
) -> dict[str, Any]:
    """What the set was made from and with."""
    data = config.data
    titles = [data.sources[task.source].title for task in data.tasks.values()]
    common = data.pretraining.get("images_per_task", 0)
    held_out = f"positions {data.search} to {data.search + common - 1} of the training images"
    first, rest = f"positions 0 to {data.search - 1}", f"positions from {data.search + common} on"
    return {
        "seed": seed,
        "sources": {
            "pretraining": data.pretraining.title,
            "tasks": ", ".join(dict.fromkeys(titles)),
        },
        "rows": {
            "order": f"each task's rows of the source, shuffled with seed {data.shuffle}",
            "search": f"{first} of the training images",
            **({"pretraining": held_out} if common else {}),
            "train": f"{data.train} of the {rest} of the training images, drawn with seed {seed}",
            "test": f"positions 0 to {data.test - 1} of the test images",
        },
        "pretraining": plain(config.pretraining),
        "experts": plain(config.experts),
        "optimiser": plain(config.optimiser),
        "tuning": {
            "grid": plain(config.tuning),
            "weight": list(weights),
            "search_accuracy": round(score, 4),
        },
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
    }


def build(config: DictConfig, directory: Path, bars: Progress) -> list[Result]:
    """Write pretrained model, data, experts and suite files into `directory`.

    Raises FileNotFoundError or ValueError, before anything is trained, where the data is not there
    or too small.
    """
    images = {
        name: {part: read_images(source, part) for part in ("train", "test")}
        for name, source in config.data.sources.items()
    }
    tasks = [
        deal_task(name, config.data, images[task.source])
        for name, task in config.data.tasks.items()
    ]
    ancestral = pretraining_images(config.data, tasks, images)
    bar = bars.add_task("pretraining", total=_steps(config, len(ancestral)))
    advance = partial(bars.advance, bar)
    pretrained = pretrain(config, ancestral, advance)
    save_model(pretrained, directory / "pretrained")
    _save_data(config, tasks, images, directory)
    results: list[Result] = []
    for seed in config.seeds:
        bars.update(bar, description=f"set {seed}")
        results += _build_set(config, seed, tasks, images, pretrained, directory, advance)
    return results


def _steps(config: DictConfig, pretraining: int) -> int:
    """How often the bar advances: optimiser steps and tuned combinations."""
    optimiser = Optimiser(**config.optimiser)
    experts = sum(
        optimiser.steps(config.data.train, expert.epochs) for expert in config.experts.values()
    )
    grid = evaluations(config.tuning, len(config.data.tasks))
    return optimiser.steps(pretraining, config.pretraining.epochs) + len(config.seeds) * (
        experts + grid
    )


def _save_data(
    config: DictConfig, tasks: Sequence[Task], images: Mapping[str, Parts], directory: Path
) -> None:
    for task in tasks:
        for split, part, rows in (("search", "train", task.search), ("test", "test", task.test)):
            file = directory / "data" / f"{task.name}-{split}.parquet"
            save_rows(file, images[task.source][part][rows], rows, task.classes, task.names)
    (directory / "LICENSE-data").write_text(config.data.statement, encoding="utf-8")


def _build_set(
    config: DictConfig,
    seed: int,
    tasks: Sequence[Task],
    images: Mapping[str, Parts],
    pretrained: ViTForImageClassification,
    directory: Path,
    advance: Callable[[], None],
) -> list[Result]:
    """Train and write the experts of one seed, tune λ on their search split, write the file."""
    results, experts, search = [], {}, {}
    for task in tasks:
        parts = images[task.source]
        start = time.perf_counter()
        model = fine_tune(task, parts["train"], pretrained, config, seed, advance)
        seconds = time.perf_counter() - start
        experts[task.name] = model
        search[task.name] = Examples.of(parts["train"][task.search], task.classes)
        test = Examples.of(parts["test"][task.test], task.classes)
        scores = accuracy(model, search[task.name]), accuracy(model, test)
        results.append(Result(seed, task.name, *scores, seconds))
        save_model(model, directory / f"set-{seed}" / task.name)
    weights, score = tune_weights(pretrained, experts, search, config.tuning, advance)
    description = describe(config, tasks, seed, weights, score)
    save_suite_file(directory / f"{config.name}-{seed}.yaml", description)
    return results
