"""Where examples come from: a data file, a directory, or a dataset on the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os.path import normpath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
from datasets.exceptions import DatasetsError
from huggingface_hub.constants import HF_HUB_CACHE

READERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}
SETTINGS = ("path", "name", "split")

Place = str | Mapping[str, str]
"""A path, or {path, name, split} where path may also be the name of a dataset on the hub."""


def read_rows(place: Place, beside: Path) -> datasets.Dataset:
    """Read the rows of one split.

    Args:
        place: a parquet, csv or jsonl file; a directory that holds an image folder or a dataset as
            `datasets` reads or saves it; or a mapping with the `path` of such a file or directory
            or the name of a dataset on the hub, and where there are several the `name` of its
            configuration and the `split` ("train", "train[:1000]").
        beside: the directory that relative paths start from.

    Raises:
        FileNotFoundError: there is nothing at the path, nor on the hub as far as it can be reached.
        ValueError: a file of another kind, empty or damaged; a folder without files; several
            splits of which none is named; a split that is not there or a part without rows; images
            that are only paths of files elsewhere; a dataset that wants its own code to be run.
    """
    settings = {"path": place} if isinstance(place, str) else dict(place)
    if "path" not in settings or settings.keys() - set(SETTINGS):
        raise ValueError(f"data is a path or a mapping with {', '.join(SETTINGS)}, got {place!r}")
    path, name, split = beside / settings["path"], settings.get("name"), settings.get("split")
    with _no_bars():
        if path.is_file():
            found, roots = _read_file(path, split or "train"), []
        elif path.is_dir():
            found, roots = _read_directory(path, name, split), [str(path)]
        elif isinstance(place, str) or settings["path"].startswith((".", "/")):
            raise FileNotFoundError(f"there is no data file {path}")
        else:
            found = _read_hub(settings["path"], name, split)
            roots = [datasets.config.HF_DATASETS_CACHE, HF_HUB_CACHE]
    rows = _only(found, split, path)
    if len(rows) == 0:
        raise ValueError(f"{path} has no rows in the split {split!r}: name a part that has some")
    _check_images(rows, roots)
    return rows


def _read_file(file: Path, split: str) -> Any:
    if file.suffix not in READERS:
        raise ValueError(f"{file} is not one of the data files read here: {', '.join(READERS)}")
    try:
        return _load_afresh(READERS[file.suffix], split=split, data_files=str(file))
    except (DatasetsError, ValueError) as error:
        raise ValueError(f"{file} is empty or damaged: {error.__cause__ or error}") from None


def _read_directory(directory: Path, name: str | None, split: str | None) -> Any:
    if empty := sorted(str(folder.relative_to(directory)) for folder in _empty(directory)):
        raise ValueError(
            f"{directory} has folders without files: {', '.join(empty)}. An empty class shifts the "
            f"labels of those that follow it: fill or delete its folder"
        )
    try:
        if any((directory / file).is_file() for file in ("state.json", "dataset_dict.json")):
            return _part(datasets.load_from_disk(str(directory)), split)
        return _load_afresh(str(directory), name, split=split)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{directory} cannot be read as a dataset: {_line(error)}") from None


def _load_afresh(*path_and_name: str | None, **settings: Any) -> Any:
    """Local data without the cache of `datasets`, which takes a file for unchanged by its time."""
    with TemporaryDirectory() as cache:
        return datasets.load_dataset(
            *path_and_name, keep_in_memory=True, cache_dir=cache, **settings
        )


def _part(saved: Any, split: str | None) -> Any:
    """The split, or parts of splits, of a saved dataset; all of it where none is named."""
    if split is None:
        return saved
    if isinstance(saved, datasets.Dataset):
        saved = {str(saved.split or "train"): saved}
    sizes = {name: len(rows) for name, rows in saved.items()}
    parts = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
    return datasets.concatenate_datasets(
        [saved[part.splitname].select(list(range(part.from_, part.to))) for part in parts]
    )


def _empty(directory: Path) -> Iterator[Path]:
    for folder in directory.rglob("*"):
        if folder.is_dir() and not folder.name.startswith(".") and not any(folder.iterdir()):
            yield folder


def _read_hub(path: str, name: str | None, split: str | None) -> Any:
    try:
        return datasets.load_dataset(path, name, split=split, keep_in_memory=True)
    except OSError as error:
        raise FileNotFoundError(
            f"there is no directory {path!r}, and no dataset of that name on the hub can be had "
            f"({_line(error)})"
        ) from None
    except (DatasetsError, ValueError, RuntimeError) as error:
        raise ValueError(f"the dataset {path!r} cannot be read: {_line(error)}") from None


def _only(found: Any, split: str | None, path: Path) -> datasets.Dataset:
    """The split that was asked for, or the only one that there is."""
    if not isinstance(found, datasets.DatasetDict):
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        raise ValueError(
            f"{path} has the splits {', '.join(found)}: name one, {{path: {path.name}, split: "
            f"{next(iter(found))}}}"
        )
    return found[split]


def _check_images(rows: datasets.Dataset, roots: Sequence[str | Path]) -> None:
    """ValueError unless images are in the data themselves, or files below one of `roots`."""
    for column, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            for path in _paths(rows, column):
                file = Path(normpath(path))
                if not any(file.is_relative_to(normpath(root)) for root in roots):
                    raise ValueError(
                        f"column {column!r} names the file {path!r} instead of holding an image, "
                        f"and files outside the data's own folder are not read: put the images "
                        f"into the data, or lay them in a folder for each class"
                    )


def _paths(rows: datasets.Dataset, column: str) -> list[str]:
    """The paths of those images of which the data holds nothing else."""
    images = rows.select_columns([column]).with_format("arrow")[:][column]
    return [
        path
        for chunk in images.chunks
        for path in chunk.field("path").filter(chunk.field("bytes").is_null()).to_pylist()
        if path is not None
    ]


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _no_bars() -> Iterator[None]:
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
