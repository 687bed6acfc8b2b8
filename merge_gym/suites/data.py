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


def load_split(location: str, columns: Mapping[str, str], processor: str) -> Split:
    """Read one split and preprocess it, once, as the model expects it.

    Args:
        location: a parquet, csv or jsonl file.
        columns: the names of the columns that hold `input` and `label`.
        processor: the checkpoint whose image processor is applied.

    Raises:
        FileNotFoundError, ValueError: a file that is not there, of another kind, or without
            these columns.
    """
    rows = _read(Path(location))
    missing = [column for column in columns.values() if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"{location} has no column {', '.join(missing)}; it has {', '.join(rows.column_names)}"
        )
    labels = torch.tensor(rows[columns["label"]][:], dtype=torch.int64)
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
    finally:
        if quiet:
            datasets.enable_progress_bars()


def _images(rows: datasets.Dataset, column: str, processor: str) -> dict[str, Tensor]:
    if not isinstance(rows.features[column], datasets.Image):
        raise ValueError(
            f"column {column!r} holds {rows.features[column]}, expected images (datasets.Image)"
        )
    images = rows[column][:]
    if not images:
        return {"pixel_values": torch.zeros(0)}
    prepare = AutoImageProcessor.from_pretrained(processor)
    return {"pixel_values": prepare(images=images, return_tensors="pt")["pixel_values"]}
