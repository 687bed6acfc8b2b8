"""Writing a suite: data as parquet, checkpoints as Hugging Face directories, and the suite file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import datasets
import numpy as np
import yaml
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image

from experiments.builders.image_sources import LabelledImages
from merge_gym.models import torchvision_shim

torchvision_shim.install()

from transformers import (  # noqa: E402
    PreTrainedModel,
    ViTForImageClassification,
    ViTImageProcessor,
)
from transformers.utils import logging as transformers_logging  # noqa: E402


@dataclass(frozen=True)
class Result:
    """An expert's accuracy on its own task, after rounding, and how long its training took."""

    seed: int
    expert: str
    search: float
    test: float
    seconds: float


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Give a temporary directory to write to, and rename it to `directory` if all went well.

    Raises FileExistsError at once where `directory` is there already.
    """
    if directory.exists():
        raise FileExistsError(f"{directory} is there already: delete it, or set another output")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        temporary.replace(directory)
    finally:
        rmtree(temporary, ignore_errors=True)


def save_model(model: ViTForImageClassification, directory: Path) -> None:
    """Write the model in float16 with the preprocessing x / 127.5 − 1 of one grey channel."""
    size = {"height": model.config.image_size, "width": model.config.image_size}
    save_weights(model, directory)
    ViTImageProcessor(
        do_resize=True,
        size=size,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=[0.5],
        image_std=[0.5],
    ).save_pretrained(directory)


def save_weights(model: PreTrainedModel, directory: Path) -> None:
    """Write weights and configuration in float16."""
    transformers_logging.disable_progress_bar()
    try:
        model.half().save_pretrained(directory)
    finally:
        transformers_logging.enable_progress_bar()
    model.float()
    for file in directory.iterdir():
        file.chmod(0o644)  # weights come out readable by their owner alone


def save_rows(
    file: Path,
    rows: LabelledImages,
    numbers: NDArray[np.int64],
    classes: Sequence[int],
    names: Sequence[str],
) -> None:
    """Write images as PNG, labels as places in the task's head, and row numbers in the source.

    Args:
        file: a parquet file.
        rows: n images.
        numbers: their row numbers in the source, shape (n,).
        classes: the source's class numbers in the order of the head.
        names: their names.
    """
    places = {number: place for place, number in enumerate(classes)}
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=list(names)),
        "index": datasets.Value("int32"),
    }
    columns = {
        "image": [Image.fromarray(image) for image in rows.images],
        "label": [places[int(label)] for label in rows.labels],
        "index": numbers.tolist(),
    }
    save_table(file, columns, features)


def save_table(
    file: Path, columns: Mapping[str, Sequence[Any]], features: Mapping[str, Any]
) -> None:
    """Write columns of these `datasets` features as a parquet file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        table = datasets.Dataset.from_dict(
            dict(columns), features=datasets.Features(dict(features))
        )
        table.to_parquet(file)
    finally:
        if shown:
            datasets.enable_progress_bars()


class _Plain(yaml.SafeDumper):
    """Writes a value that stands in two places twice, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def save_suite_file(file: Path, description: dict[str, Any]) -> None:
    """Write the suite file, its keys in the order given."""
    text = yaml.dump(description, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100)
    file.write_text(text, encoding="utf-8")


def size_of(directory: Path) -> int:
    """Bytes of all files under `directory`."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def plain(node: Any) -> Any:
    """A part of the configuration as ordinary dicts and lists."""
    return OmegaConf.to_container(node, resolve=True)
