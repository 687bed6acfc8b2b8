"""Data files to tensors, through `datasets` and the model's own processor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import datasets
import torch
from torch import Tensor
from transformers import AutoImageProcessor

from merge_gym.suites.suite import Split

READERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}


def load_split(file: Path, columns: Mapping[str, str], processor: str) -> Split:
    """Read one split and preprocess it, once, as the model expects it.

    Args:
        file: a parquet, csv or jsonl file.
        columns: the names of the columns that hold `input` and `label`.
        processor: the checkpoint whose image processor is applied.

    Raises:
        FileNotFoundError, ValueError: a file that is not there, of another kind, empty or damaged,
            or without these columns, or with something else in them.
    """
    rows = _read(file)
    missing = [column for column in columns.values() if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"{file} has no column {', '.join(missing)}; it has {', '.join(rows.column_names)}"
        )
    labels = _labels(rows, columns["label"])
    return Split(_images(rows, columns["input"], processor), labels)


def _read(file: Path) -> datasets.Dataset:
    if not file.is_file():
        raise FileNotFoundError(f"there is no data file {file}")
    if file.suffix not in READERS:
        raise ValueError(f"{file} is not one of the data files read here: {', '.join(READERS)}")
    quiet = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            READERS[file.suffix], data_files=str(file), split="train", keep_in_memory=True
        )
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
        raise ValueError(f"{file} is empty or damaged: {error.__cause__ or error}") from None
    finally:
        if quiet:
            datasets.enable_progress_bars()


def _labels(rows: datasets.Dataset, column: str) -> Tensor:
    labels = rows[column][:]
    if not all(isinstance(label, int) for label in labels):
        raise ValueError(
            f"column {column!r} holds {rows.features[column]}, expected a whole number in each row"
        )
    return torch.tensor(labels, dtype=torch.int64)


def _images(rows: datasets.Dataset, column: str, processor: str) -> dict[str, Tensor]:
    if not isinstance(rows.features[column], datasets.Image):
        raise ValueError(
            f"column {column!r} holds {rows.features[column]}, expected images (datasets.Image)"
        )
    images = rows[column][:]
    prepare = AutoImageProcessor.from_pretrained(processor, backend="pil")
    return {"pixel_values": prepare(images=images, return_tensors="pt")["pixel_values"]}
