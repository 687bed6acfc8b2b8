"""Building a suite of text classifiers: one pretrained encoder, fine-tuned on each source."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments import training
from experiments.suite_files import Result, plain, save_suite_file, save_table, save_weights
from experiments.text_sources import LabelledTexts, directory_of, read_texts
from experiments.training import Optimiser
from merge_gym.models import torchvision_shim
from merge_gym.models.files import copy_processor

torchvision_shim.install()

from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging  # noqa: E402


@dataclass(frozen=True)
class Task:
    """One task's texts, in the one fixed order.

    Attributes:
        name: of the task and of its expert.
        texts: all of the source.
        pool: rows that experts may be trained on, shape (n,).
        search, test: rows of the splits.
    """

    name: str
    texts: LabelledTexts
    pool: NDArray[np.int64]
    search: NDArray[np.int64]
    test: NDArray[np.int64]

    def training_rows(self, count: int, seed: int) -> NDArray[np.int64]:
        """The rows that the set with this seed trains on, shape (count,)."""
        return np.random.default_rng(seed).permutation(self.pool)[:count]


def deal_task(name: str, data: DictConfig) -> Task:
    """Choose a task's rows; ValueError where the source has too few."""
    texts = read_texts(data.tasks[name])
    needed = data.search + data.test + data.train
    if len(texts) < needed:
        raise ValueError(
            f"task {name!r} needs {needed} different texts (data.search + data.test + data.train), "
            f"the source has {len(texts)}"
        )
    order = np.random.default_rng(data.shuffle).permutation(len(texts))
    search, test, pool = np.split(order, [data.search, data.search + data.test])
    return Task(name, texts, pool, search, test)


class Classifier:
    """A pretrained encoder with a fresh head, and its tokenizer.

    Args:
        directory: of the pretrained checkpoint.
        names: of the classes.
        max_length: tokens that are kept of a text.
        seed: of the head and of dropout.
    """

    def __init__(self, directory: Path, names: tuple[str, ...], max_length: int, seed: int) -> None:
        config = AutoConfig.from_pretrained(
            directory,
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
        )
        torch.manual_seed(seed)
        self.model: PreTrainedModel = _quietly(
            AutoModelForSequenceClassification.from_pretrained,
            directory,
            config=config,
            dtype=torch.float32,
        )
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        self.max_length = max_length

    def logits(self, texts: LabelledTexts) -> Tensor:
        """The head's output, shape (n, classes)."""
        encoded = self.tokenizer(
            texts.texts,
            truncation=True,
            max_length=self.max_length,
            padding="longest",
            return_tensors="pt",
        )
        return self.model(**encoded).logits

    def loss(self, texts: LabelledTexts) -> Tensor:
        """The mean cross entropy."""
        return cross_entropy(self.logits(texts), torch.from_numpy(texts.labels))

    @torch.inference_mode()
    def accuracy(self, texts: LabelledTexts, batch_size: int = 32) -> float:
        """Share of the texts whose largest logit is their label's."""
        batches = np.array_split(np.arange(len(texts)), -(-len(texts) // batch_size))
        hits = [
            (self.logits(texts[rows]).argmax(-1).numpy() == texts.labels[rows]) for rows in batches
        ]
        return float(np.concatenate(hits).mean())


def build(config: DictConfig, directory: Path, bars: Progress) -> list[Result]:
    """Write pretrained model, data, experts and suite files into `directory`.

    Raises FileNotFoundError or ValueError, before anything is trained, where the pretrained model
    or a source is not there or too small.
    """
    source = directory_of(config.pretrained, "model.safetensors")
    tasks = [deal_task(name, config.data) for name in config.data.tasks]
    _save_pretrained(source, directory / "pretrained")
    for task in tasks:
        for split, rows in (("search", task.search), ("test", task.test)):
            _save_texts(directory / "data" / f"{task.name}-{split}.parquet", task, rows)
    (directory / "LICENSE-data").write_text(config.data.statement, encoding="utf-8")
    bar = bars.add_task("", total=_steps(config))
    results = []
    for seed in config.seeds:
        for task in tasks:
            bars.update(bar, description=f"set {seed}, {task.name}")
            advance = partial(bars.advance, bar)
            results.append(_build_expert(config, seed, task, directory, advance))
        save_suite_file(directory / f"{config.name}-{seed}.yaml", describe(config, tasks, seed))
    return results


def _steps(config: DictConfig) -> int:
    optimiser = Optimiser(**config.optimiser)
    experts = config.experts.values()
    steps = sum(optimiser.steps(config.data.train, expert.epochs) for expert in experts)
    return steps * len(config.seeds)


def _save_pretrained(source: Path, target: Path) -> None:
    """Write the pretrained model in float16, as the experts are."""
    model = _quietly(AutoModelForSequenceClassification.from_pretrained, source)
    save_weights(model.base_model, target)
    copy_processor(source, target)


def _save_texts(file: Path, task: Task, rows: NDArray[np.int64]) -> None:
    texts = task.texts[rows]
    save_table(
        file,
        {"text": texts.texts, "label": texts.labels.tolist(), "index": rows.tolist()},
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(texts.names)),
            "index": datasets.Value("int32"),
        },
    )


def _build_expert(
    config: DictConfig, seed: int, task: Task, directory: Path, advance: Callable[[], None]
) -> Result:
    start = time.perf_counter()
    settings = config.experts[task.name]
    expert = Classifier(
        directory / "pretrained", task.texts.names, config.data.tasks[task.name].max_length, seed
    )
    texts = task.texts[task.training_rows(config.data.train, seed)]
    training.train(
        expert.model,
        lambda batch: expert.loss(texts[batch.numpy()]),
        len(texts),
        settings.learning_rate,
        settings.epochs,
        Optimiser(**config.optimiser),
        seed,
        advance,
    )
    seconds = time.perf_counter() - start
    target = directory / f"set-{seed}" / task.name
    save_weights(expert.model, target)
    copy_processor(directory / "pretrained", target)
    search, test = (expert.accuracy(task.texts[rows]) for rows in (task.search, task.test))
    return Result(seed, task.name, search, test, seconds)


def describe(config: DictConfig, tasks: list[Task], seed: int) -> dict[str, Any]:
    """The suite file of one set."""
    data = config.data
    first, second = data.search, data.search + data.test
    return {
        "name": f"{config.name}-{seed}",
        "description": f"{config.description.strip()} Expert set of seed {seed}.",
        "licence": config.licence,
        "pretrained": "pretrained",
        "experts": {task.name: f"set-{seed}/{task.name}" for task in tasks},
        "tasks": {task.name: _task_entry(task.name, data.tasks[task.name]) for task in tasks},
        "operators": plain(config.operators),
        "shared": config.shared,
        "provenance": {
            "seed": seed,
            "pretrained": config.pretrained.title,
            "sources": {task.name: data.tasks[task.name].title for task in tasks},
            "rows": {
                "order": f"the source's different texts, shuffled with seed {data.shuffle}",
                "search": f"positions 0 to {first - 1}",
                "test": f"positions {first} to {second - 1}",
                "train": f"{data.train} of the rest, drawn with seed {seed}",
            },
            "experts": plain(config.experts),
            "optimiser": plain(config.optimiser),
            "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
        },
    }


def _task_entry(name: str, source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "expert": name,
        "metric": "accuracy",
        "columns": {"input": "text", "label": "label"},
        "max_length": source["max_length"],
        "data": {split: f"data/{name}-{split}.parquet" for split in ("search", "test")},
    }


def _quietly(load: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Load without a bar and without the warning that the head is fresh, which it is to be."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        return load(*args, **kwargs)
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
