"""Images that stay as they are stored until a model reads them: rows of any dataset of images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from merge_gym.suites.data import check_columns
from merge_gym.suites.rows import read_rows


@dataclass(frozen=True)
class ImageRows:
    """Encoded images with their classes.

    Attributes:
        rows: a column `image`, decoded when it is read.
        labels: places in `names`, shape (n,).
        names: of the classes.
    """

    rows: datasets.Dataset
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: NDArray[np.int64]) -> ImageRows:
        chosen = self.rows.select(rows, keep_in_memory=True)
        return ImageRows(chosen, self.labels[rows], self.names)

    def decoded(self) -> list[Image]:
        """All images: ask for those of a few rows."""
        return self.rows["image"][:]

    def encoded(self) -> Iterator[bytes]:
        """What the file of each image holds."""
        for row in self.rows.cast_column("image", datasets.Image(decode=False))["image"]:
            yield row["bytes"] or Path(row["path"]).read_bytes()


def read_image_rows(source: Mapping[str, Any], part: str) -> ImageRows:
    """The images of a part of a source, of its chosen classes.

    Outside the test part each image comes once, and none that is in the test part too.

    Args:
        source: `path` of a dataset (on the hub, or a local directory), its columns `image` and
            `label`, perhaps `classes` (the numbers of the first one and of the one after the last),
            and in `parts` which of its parts are for `search`, `test` and `train`.
        part: one of the dataset's.

    Raises:
        FileNotFoundError: the dataset is not there.
        ValueError: it has no such part, columns or classes.
    """
    found, held_out = _read_part(source, part), source["parts"]["test"]
    if part == held_out:
        return found
    seen, different = set(_digests(_read_part(source, held_out))), []
    for row, digest in enumerate(_digests(found)):
        if digest not in seen:
            seen.add(digest)
            different.append(row)
    return found[np.array(different, np.int64)]


def _read_part(source: Mapping[str, Any], part: str) -> ImageRows:
    rows = read_rows({"path": source["path"], "split": part}, Path())
    image, label = source["image"], source["label"]
    check_columns(rows, {"input": image, "label": label}, "accuracy")
    names = getattr(rows.features[label], "names", None)
    if not isinstance(rows.features[image], datasets.Image) or not names:
        raise ValueError(
            f"{source['path']} holds {rows.features[image]} in column {image!r} and "
            f"{rows.features[label]} in column {label!r}, expected images (datasets.Image) and the "
            f"numbers of named classes (datasets.ClassLabel)"
        )
    first, stop = source.get("classes") or (0, len(names))
    if not 0 <= first < stop <= len(names):
        raise ValueError(
            f"{source['path']} has {len(names)} classes; [{first}, {stop}] are not the numbers of "
            f"the first one of them and of the one after the last"
        )
    labels = np.array(rows[label][:], np.int64)
    images = rows.select_columns([image]).rename_columns({image: "image"})
    chosen = np.flatnonzero((labels >= first) & (labels < stop))
    return ImageRows(images, labels - first, tuple(names[first:stop]))[chosen]


def _digests(images: ImageRows) -> Iterator[bytes]:
    return (hashlib.sha256(content).digest() for content in images.encoded())
