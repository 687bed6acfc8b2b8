"""Sets of experts, fine-tuned from one checkpoint on a task each, and a suite file for each set."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import Progress
from torch import Tensor

from experiments.builders import training
from experiments.builders.files import Result, plain, save_suite_file, save_table, save_weights
from experiments.builders.training import Optimiser
from merge_gym.models import torchvision_shim
from merge_gym.models.files import copy_processor
from merge_gym.models.weights import quiet

torchvision_shim.install()

from transformers import AutoConfig, PreTrainedModel  # noqa: E402

SPLITS = ("search", "test", "pretraining", "train")
"""In the order in which rows are dealt; `pretraining` is there where its number is given."""
WHOLE = "all"
"""The one part of a source that has no parts of its own."""


class Examples(Protocol):
    """Some rows of a source."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class or the right choice of each, shape (n,)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> Self: ...


E = TypeVar("E", bound=Examples)
Contra = TypeVar("Contra", bound=Examples, contravariant=True)


class Expert(Protocol[Contra]):
    """A model on its way from the pretrained one to an expert."""

    @property
    def model(self) -> PreTrainedModel:
        """What is trained and saved."""

    def loss_on(self, examples: Contra) -> Callable[[Tensor], Tensor]:
        """The mean loss on the examples of these numbers, shape (batch,)."""

    def score(self, examples: Contra) -> float:
        """The task's metric, in [0, 1]."""


@dataclass(frozen=True)
class Kind(Generic[E]):
    """What a kind of suite does in its own way.

    Attributes:
        read: `(source, part)`: all examples of a part of a source; ValueError or FileNotFoundError
            where they are not there.
        save_pretrained: `(settings, directory)`: writes the pretrained model and its processor.
        open_expert: `(directory, source, examples, seed)`: the pretrained model in `directory`,
            ready to be trained.
        table: `(examples)`: the columns of the data, and the features of `datasets` they have.
        entry: `(source)`: metric, columns and lengths of a task in the suite file.
    """

    read: Callable[[DictConfig, str], E]
    save_pretrained: Callable[[DictConfig, Path], None]
    open_expert: Callable[[Path, DictConfig, E, int], Expert[E]]
    table: Callable[[E], tuple[dict[str, Sequence[Any]], dict[str, Any]]]
    entry: Callable[[DictConfig], dict[str, Any]]


@dataclass(frozen=True)
class Task(Generic[E]):
    """One task's examples, in the one fixed order.

    Attributes:
        name: of the task and of its expert.
        examples: {split: all of the part of the source that it is dealt from}.
        rows: {split: its rows there}; `train` are all that experts may be trained on.
    """

    name: str
    examples: Mapping[str, E]
    rows: Mapping[str, NDArray[np.int64]]

    def split(self, name: str) -> E:
        """The examples of a split."""
        return self.examples[name][self.rows[name]]

    def training_rows(self, count: int | None, seed: int) -> NDArray[np.int64]:
        """The rows that the set with this seed trains on, shape (count,); all without a count."""
        return np.random.default_rng(seed).permutation(self.rows["train"])[:count]


def sizes(name: str, data: DictConfig) -> dict[str, int | None]:
    """{split: how many examples}: the task's own number, or the one of all tasks; None is all that
    the splits before it leave. Without either number there is no such split."""
    numbers = {**data, **data.tasks[name]}
    return {split: numbers[split] for split in SPLITS if split in numbers}


def balanced(order: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """`order` with the first row of every class before every second one, and so on: its first rows
    have, as far as it can be, equally many of each class."""
    met: Counter[int] = Counter()
    ranks = []
    for row in order:
        ranks.append(met[labels[row]])
        met[labels[row]] += 1
    return order[np.argsort(ranks, kind="stable")]


def deal_task(read: Callable[[DictConfig, str], E], name: str, data: DictConfig) -> Task[E]:
    """Choose a task's rows; splits of one part get different ones.

    Raises ValueError where a part has too few.
    """
    wanted = sizes(name, data)
    parts = data.tasks[name].get("parts") or dict.fromkeys(wanted, WHOLE)
    found = {part: read(data.tasks[name], part) for part in dict.fromkeys(parts.values())}
    rows: dict[str, NDArray[np.int64]] = {}
    for part, examples in found.items():
        splits = [split for split in wanted if parts[split] == part]
        needed = sum(wanted[split] or 1 for split in splits)
        if len(examples) < needed:
            settings = " + ".join(f"data.{split}" for split in splits)
            raise ValueError(
                f"task {name!r} needs {needed} different examples ({settings}), the source has "
                f"{len(examples)}{'' if part == WHOLE else f' in its part {part!r}'}"
            )
        order = np.random.default_rng(data.shuffle).permutation(len(examples))
        if data.get("balanced"):
            order = balanced(order, examples.labels)
        for split in splits:
            size = None if split == "train" else wanted[split]
            size = len(order) if size is None else size
            rows[split], order = order[:size], order[size:]
    return Task(name, {split: found[parts[split]] for split in wanted}, rows)


def open_with_head(
    auto_class: Any, directory: Path, names: Sequence[str], seed: int
) -> PreTrainedModel:
    """The model in `directory`, float32, with a head for the named classes; a fresh one, unless it
    has one of that size.

    Args:
        auto_class: a class of transformers such as AutoModelForImageClassification.
        directory: of a checkpoint.
        names: of the classes.
        seed: of the head, and of what is drawn next, such as dropout.
    """
    config = AutoConfig.from_pretrained(directory)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    if hasattr(config, "label_names"):  # timm's
        config.label_names = list(names)
    torch.manual_seed(seed)
    with quiet():  # that the head is fresh is as it is to be
        return auto_class.from_pretrained(
            directory, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
        )


def build(kind: Kind[E], config: DictConfig, directory: Path, bars: Progress) -> list[Result]:
    """Write pretrained model, data, experts and suite files into `directory`.

    Raises FileNotFoundError or ValueError, before anything is trained, where the pretrained model
    or a source is not there or too small.
    """
    tasks = [deal_task(kind.read, name, config.data) for name in config.data.tasks]
    kind.save_pretrained(config.pretrained, directory / "pretrained")
    for task in tasks:
        for split in ("search", "test"):
            _save_split(kind, task, split, directory / "data" / f"{task.name}-{split}.parquet")
    (directory / "LICENSE-data").write_text(config.data.statement, encoding="utf-8")
    bar = bars.add_task("", total=_steps(config, tasks))
    results = []
    for seed in config.seeds:
        for task in tasks:
            bars.update(bar, description=f"set {seed}, {task.name}")
            advance = partial(bars.advance, bar)
            results.append(_build_expert(kind, config, seed, task, directory, advance))
        save_suite_file(directory / f"{config.name}-{seed}.yaml", describe(kind, config, seed))
    return results


def _steps(config: DictConfig, tasks: Sequence[Task[Any]]) -> int:
    optimiser = Optimiser(**config.optimiser)
    examples = {
        task.name: len(task.training_rows(sizes(task.name, config.data)["train"], seed=0))
        for task in tasks
    }
    steps = [optimiser.steps(examples[name], config.experts[name].epochs) for name in examples]
    return sum(steps) * len(config.seeds)


def _save_split(kind: Kind[E], task: Task[E], split: str, file: Path) -> None:
    columns, features = kind.table(task.split(split))
    save_table(
        file,
        columns | {"index": task.rows[split].tolist()},
        features | {"index": datasets.Value("int32")},
    )


def _build_expert(
    kind: Kind[E],
    config: DictConfig,
    seed: int,
    task: Task[E],
    directory: Path,
    advance: Callable[[], None],
) -> Result:
    start = time.perf_counter()
    rows = task.training_rows(sizes(task.name, config.data)["train"], seed)
    examples = task.examples["train"][rows]
    pretrained, target = directory / "pretrained", directory / f"set-{seed}" / task.name
    expert = kind.open_expert(pretrained, config.data.tasks[task.name], examples, seed)
    training.train(
        expert.model,
        expert.loss_on(examples),
        len(examples),
        config.experts[task.name].learning_rate,
        config.experts[task.name].epochs,
        Optimiser(**config.optimiser),
        seed,
        advance,
    )
    seconds = time.perf_counter() - start
    save_weights(expert.model, target)
    copy_processor(pretrained, target)
    search, test = (expert.score(task.split(split)) for split in ("search", "test"))
    return Result(seed, task.name, search, test, seconds)


def describe(kind: Kind[Any], config: DictConfig, seed: int) -> dict[str, Any]:
    """The suite file of one set."""
    data = config.data
    return {
        "name": f"{config.name}-{seed}",
        "description": f"{config.description.strip()} Expert set of seed {seed}.",
        "licence": config.licence,
        "pretrained": "pretrained",
        "experts": {name: f"set-{seed}/{name}" for name in data.tasks},
        "tasks": {
            name: {
                "expert": name,
                **kind.entry(source),
                "data": {split: f"data/{name}-{split}.parquet" for split in ("search", "test")},
            }
            for name, source in data.tasks.items()
        },
        "operators": plain(config.operators),
        "shared": config.shared,
        "provenance": _provenance(config, seed),
    }


def _provenance(config: DictConfig, seed: int) -> dict[str, Any]:
    """What the set was made from and with."""
    data = config.data
    turn = ", one of each class in turn" if data.get("balanced") else ""
    parts = {name: plain(source.parts) for name, source in data.tasks.items() if "parts" in source}
    dealt = ", then ".join(split for split in SPLITS[:-1] if split in data)
    return {
        "seed": seed,
        "pretrained": config.pretrained.title,
        "sources": {name: source.title for name, source in data.tasks.items()},
        **({"parts": parts} if parts else {}),
        "rows": {
            "order": f"the source's different examples, shuffled with seed {data.shuffle}{turn}",
            "dealt": f"{dealt}; train is drawn from the rest with seed {seed}",
            "sizes": {name: sizes(name, data) for name in data.tasks},
        },
        "experts": plain(config.experts),
        "optimiser": plain(config.optimiser),
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
    }
