"""Files of tables: safetensors, compressed where their name ends in `.xz`.

For each split and task such a file holds the examples' labels and, recipe by recipe, a bit for each
example; and as JSON what they belong to, with a checksum of it all.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from merge_gym.files import replacing
from merge_gym.recipe import Source, whole
from merge_gym.spaces.candidates import Candidates

FORMAT = "merge_gym.table/1"
COMPRESSED = ".xz"
SHIPPED = Path(__file__).parents[1] / "suites" / "shipped"
ENDING = f".safetensors{COMPRESSED}"
PLACES = {"search": "", "test": "test/"}
"""{split: what its tensors' names begin with}"""

DEEPEST = 64
"""More layers than any model has whose recipes could all be scored."""


@dataclass(frozen=True)
class Rows:
    """What recipes get right in one split.

    Attributes:
        bits: for each task, whether a recipe gets an example right: bits in uint8 (as
            `numpy.packbits`), shape (recipes, ⌈n / 8⌉).
        labels: for each task, the examples' classes, int64, shape (n,).
    """

    bits: Mapping[str, NDArray[np.uint8]]
    labels: Mapping[str, NDArray[np.int64]]

    def __len__(self) -> int:
        """Of how many recipes."""
        return len(next(iter(self.bits.values())))

    def __getitem__(self, chosen: slice) -> Rows:
        """Some of the recipes."""
        return Rows({task: bits[chosen] for task, bits in self.bits.items()}, self.labels)

    @cached_property
    def checksum(self) -> str:
        """What tells these rows from others."""
        content = sha256()
        for task, bits in self.bits.items():
            content.update(task.encode())
            content.update(bits.tobytes())
            content.update(self.labels[task].tobytes())
        return content.hexdigest()[:16]


def list_tables() -> tuple[str, ...]:
    """Names of the tables that ship with the package."""
    return tuple(sorted(_shipped()))


def find_table(table: str | Path) -> Path:
    """The file of a shipped table's name, or of a path.

    Raises FileNotFoundError where there is neither.
    """
    file = _shipped().get(str(table), Path(table))
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no table {str(table)!r}: make it with python -m experiments.tabulate, or "
            f"name a shipped one ({', '.join(list_tables())})"
        )
    return file


def read_rows(file: Path) -> tuple[Candidates, dict[str, Rows]]:
    """Candidates and rows, by split, of a table that may not be finished; ValueError where `file`
    is none, or damaged."""
    try:
        header, tensors = _read(file)
        candidates = _candidates(header)
        tasks = [str(task) for task in header["tasks"]]
        splits = {
            split: Rows(
                {task: tensors[f"{place}bits/{task}"] for task in tasks},
                {task: tensors[f"{place}labels/{task}"] for task in tasks},
            )
            for split, place in PLACES.items()
            if split == "search" or any(name.startswith(place) for name in tensors)
        }
        _check(splits)
        if header.get("checksum", checksum(header, splits)) != checksum(header, splits):
            raise ValueError("its checksum is not that of what it holds")
    except KeyError as error:
        raise _damaged(file, f"it lacks {error}") from None
    except (
        *(SafetensorError, lzma.LZMAError, EOFError, RecursionError),
        *(AttributeError, TypeError, ValueError),
    ) as error:
        raise _damaged(file, str(error)) from None
    return candidates, splits


def write_rows(file: Path, candidates: Candidates, splits: Mapping[str, Rows]) -> None:
    """Write a table, finished or not, in place of the one that may be there."""
    header: dict[str, Any] = {
        "format": FORMAT,
        "suite": candidates.suite,
        "digest": candidates.digest,
        "segments": candidates.segments,
        "candidates": {
            name: source.to_dict()
            for name, source in zip(candidates.names, candidates.sources, strict=True)
        },
        "shared": candidates.shared[0][1].to_dict(),
        "tasks": list(splits["search"].labels),
    }
    header["checksum"] = checksum(header, splits)
    tensors: dict[str, NDArray[Any]] = {}
    for split, rows in splits.items():
        place = PLACES[split]
        tensors |= {f"{place}bits/{task}": bits for task, bits in rows.bits.items()}
        tensors |= {f"{place}labels/{task}": labels for task, labels in rows.labels.items()}
    data = save(tensors, {"header": json.dumps(header)})
    with replacing(file) as temporary:
        temporary.write_bytes(lzma.compress(data) if file.suffix == COMPRESSED else data)


def _shipped() -> dict[str, Path]:
    return {file.name.removesuffix(ENDING): file for file in SHIPPED.glob(f"*/tables/*{ENDING}")}


def _read(file: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    data = file.read_bytes()
    if file.suffix == COMPRESSED:
        data = lzma.decompress(data)
    tensors = load(data)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["header"])
    if header["format"] != FORMAT:
        raise ValueError(f"its format is {header['format']!r}, not {FORMAT!r}")
    return header, tensors


def checksum(header: Mapping[str, Any], splits: Mapping[str, Rows]) -> str:
    """Of a header, but for the checksum in it, and of the rows."""
    said = {name: value for name, value in header.items() if name != "checksum"}
    content = [said, *(rows.checksum for rows in splits.values())]
    return sha256(json.dumps(content).encode()).hexdigest()[:16]


def _check(splits: Mapping[str, Rows]) -> None:
    """ValueError where rows do not fit together."""
    recipes = {len(bits) for rows in splits.values() for bits in rows.bits.values()}
    if len(recipes) != 1:
        raise ValueError(f"it holds bits of {sorted(recipes)} recipes")
    for split, rows in splits.items():
        for task, bits in rows.bits.items():
            labels = rows.labels[task]
            if labels.dtype != np.int64 or labels.ndim != 1 or not labels.size:
                raise ValueError(
                    f"labels of the {split} split of {task!r} are int64 of shape (n,), not "
                    f"{labels.dtype} of {labels.shape}"
                )
            if bits.dtype != np.uint8 or bits.shape[1:] != (-(-len(labels) // 8),):
                raise ValueError(
                    f"bits of the {split} split of {task!r} are uint8 of shape (recipes, "
                    f"{-(-len(labels) // 8)}) for {len(labels)} labels, not {bits.dtype} of "
                    f"{bits.shape}"
                )


def _candidates(header: Mapping[str, Any]) -> Candidates:
    named, segments = header["candidates"], header["segments"]
    if not all(isinstance(size, int) and size > 0 for size in segments.values()) or not (
        0 < sum(segments.values()) <= DEEPEST
    ):
        raise ValueError(f"segments are {{name: number of layers}}, got {segments}")
    return Candidates(
        header["suite"],
        header["digest"],
        segments,
        [Source.from_dict(source) for source in named.values()],
        list(named),
        whole(Source.from_dict(header["shared"])),
    )


def _damaged(file: Path, why: str) -> ValueError:
    return ValueError(
        f"{file} is not a whole table ({why}): make it again with python -m experiments.tabulate"
    )
