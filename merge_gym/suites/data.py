"""Rows to tensors, once, through the model's own image processor or tokenizer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, PretrainedConfig

from merge_gym.models import Checkpoint, adapter_for
from merge_gym.suites import text
from merge_gym.suites.metrics import METRICS
from merge_gym.suites.problems import shortened, shown
from merge_gym.suites.suite import Split

Columns = Mapping[str, str | Sequence[str]]
"""The names of the columns that hold `input`, `label`, `choices`, `target`."""

OPTIONAL = "input"
MODES = {1: "L", 3: "RGB"}
CHUNK = 64
"""Images that are decoded at once."""

PER_TOKEN = "ForTokenClassification"
"""What the names of models end in that predict a class for each token, not for each example."""


def check_columns(rows: datasets.Dataset, columns: Columns, metric: str) -> None:
    """ValueError unless `columns` are those that the metric needs, and the rows have them, with
    examples of each class that the data names."""
    needed = METRICS[metric].columns
    absent = [role for role in needed if role not in columns]
    unknown = [role for role in columns if role not in (*needed, OPTIONAL)]
    if absent or unknown:
        raise ValueError(
            f"the metric {metric!r} needs columns for {', '.join(needed)}: got {columns!r}"
        )
    for role, names in columns.items():
        pair = role == "input" and not METRICS[metric].language and len(names) == 2
        if not isinstance(names, str) and not pair and role != "choices":
            raise ValueError(f"{role!r} is one column for the metric {metric!r}, got {names!r}")
    missing = [name for names in columns.values() for name in _list(names)]
    missing = [name for name in missing if name not in rows.column_names]
    if missing:
        raise ValueError(
            f"there is no column {', '.join(missing)}, only {', '.join(rows.column_names)}"
        )
    if not METRICS[metric].language:
        _check_no_class_empty(rows, str(columns["label"]))


def make_split(
    rows: datasets.Dataset, columns: Columns, metric: str, max_length: int, model: Checkpoint
) -> Split:
    """Preprocess rows as the model expects them.

    Args:
        rows: the examples.
        columns: which of their columns hold what. Of classes, `input` is a column of images or of
            texts, or two columns of texts that the model reads as a pair.
        metric: what the task is scored by; it decides whether a class or tokens are predicted.
        max_length: tokens of a sequence; what is longer is cut, what is shorter is padded to the
            longest of the split.
        model: the expert whose processor is applied.

    Raises:
        FileNotFoundError, ValueError: no processor; columns that hold something else; labels that
            are no whole numbers; a class without examples; classes that are not the head's.
    """
    _check_output(metric, model)
    if METRICS[metric].language:
        return _language_split(rows, columns, metric, max_length, model)
    labels = _class_labels(rows, str(columns["label"]), model)
    if adapter_for(model.config).model_class().main_input_name == "pixel_values":
        return Split(_images(rows, columns["input"], model), labels)
    texts = [_strings(rows, name) for name in _list(columns["input"])]
    return Split(text.class_inputs(texts, max_length, model), labels)


def fingerprints(rows: datasets.Dataset, split: Split, columns: Columns) -> list[Hashable]:
    """For each example of a split a value that tells it from every other, whatever its label."""
    if "pixel_values" in split.inputs:
        return [hashlib.sha256(image.numpy()).digest() for image in split.inputs["pixel_values"]]
    names = [name for role in columns if role != "label" for name in _list(columns[role])]
    return [repr(texts) for texts in zip(*(_values(rows, name) for name in names), strict=True)]


def _language_split(
    rows: datasets.Dataset, columns: Columns, metric: str, max_length: int, model: Checkpoint
) -> Split:
    prompts = _strings(rows, columns["input"]) if "input" in columns else [""] * len(rows)
    if "choices" in columns:
        choices = _choices(rows, columns["choices"])
        labels = _labels(rows, str(columns["label"]))
        _check_range("choices", labels, len(choices[0]))
    else:
        choices = [[target] for target in _strings(rows, columns["target"])]
        labels = [0] * len(rows)
    inputs, targets = text.language_inputs(
        [prompt for prompt, texts in zip(prompts, choices, strict=True) for _ in texts],
        [choice for texts in choices for choice in texts],
        max_length,
        model,
        ends=METRICS[metric].ends,
    )
    if "choices" in columns:
        inputs = {name: value.unflatten(0, (len(rows), -1)) for name, value in inputs.items()}
        targets = targets.unflatten(0, (len(rows), -1))
    return Split(inputs, torch.tensor(labels, dtype=torch.int64), targets)


def _check_output(metric: str, model: Checkpoint) -> None:
    has_head = bool(adapter_for(model.config).head)
    if has_head == METRICS[metric].language:
        kind = "a head for classes" if has_head else "no head, as language models have none"
        fitting = [name for name, entry in METRICS.items() if entry.language != has_head]
        raise ValueError(
            f"the metric {metric!r} does not fit {model.location}, which has {kind}: choose "
            f"{' or '.join(fitting)}"
        )
    kind = adapter_for(model.config).model_class().__name__
    if kind.endswith(PER_TOKEN):
        raise ValueError(
            f"the metric {metric!r} needs one class for each example, but {model.location} is a "
            f"{kind}, which predicts one for each token: choose an expert that classifies examples"
        )


def _labels(rows: datasets.Dataset, column: str, names: Sequence[str] = ()) -> list[int]:
    """Whole numbers as they are; texts that are all among the names, by their place there."""
    labels = _values(rows, column)
    if names and all(isinstance(label, str) and label in names for label in labels):
        place = {name: number for number, name in enumerate(names)}
        return [place[label] for label in labels]
    if not all(isinstance(label, int) for label in labels):
        odd = next(label for label in labels if not isinstance(label, int) and label not in names)
        or_names = f", or one of the head's classes {_listed(names)}" if names else ""
        raise ValueError(
            f"column {column!r} holds {rows.features[column]}, expected a whole number in each row"
            f"{or_names}: got {shown(odd)}"
        )
    return labels


def _class_labels(rows: datasets.Dataset, column: str, model: Checkpoint) -> Tensor:
    """Labels that fit the head; where the data names its classes, in the head's order."""
    names = [name for _, name in sorted(model.config.id2label.items())]
    labels = _labels(rows, column, names)
    _check_range("classes", labels, len(names))
    if isinstance(feature := rows.features[column], datasets.ClassLabel):
        _check_classes(feature.names, names)
    return torch.tensor(labels, dtype=torch.int64)


def _check_classes(data: Sequence[str], head: Sequence[str]) -> None:
    ours, theirs = ([_plain(name) for name in names] for names in (data, head))
    named = theirs != [f"label{number}" for number in range(len(head))]
    if len(ours) != len(theirs) or (named and ours != theirs):
        raise ValueError(
            f"its classes are {_listed(data)}, but the head's {_listed(head)}: bring the data's "
            f"into the head's order, or rename them"
        )


def _plain(name: str) -> str:
    """A class's name without what is written now so, now so."""
    return re.sub(r"[\s_]", "", name).casefold()


def _listed(names: Iterable[str]) -> str:
    return shortened(", ".join(names))


def _check_no_class_empty(rows: datasets.Dataset, column: str) -> None:
    feature = rows.features[column]
    if not isinstance(feature, datasets.ClassLabel):
        return
    numbers, present = set(range(len(feature.names))), set(_values(rows, column))
    if present <= numbers and (empty := [feature.names[n] for n in sorted(numbers - present)]):
        raise ValueError(
            f"there is no example of the class {_listed(empty)}: add some, or take the class out "
            f"of the data and the head"
        )


def _check_range(what: str, labels: Sequence[int], count: int) -> None:
    outside = sorted({label for label in labels if not 0 <= label < count})
    if outside:
        raise ValueError(
            f"there are labels {shown(outside)}, but only {count} {what}, 0 to {count - 1}"
        )


def open_image_processor(
    directory: str, config: PretrainedConfig
) -> Callable[[Sequence[Image.Image]], Tensor]:
    """What turns images into the input of a model, float32, shape (n, channels, height, width).

    Args:
        directory: where the model's processor lies.
        config: the model's, whose channels images are brought to first.
    """
    mode = MODES.get(_channels(config))
    prepare = AutoImageProcessor.from_pretrained(directory, backend="pil", trust_remote_code=False)

    def pixels(images: Sequence[Image.Image]) -> Tensor:
        converted = [_in_mode(mode, _eight_bit(image)) for image in images]
        values = prepare(images=converted, return_tensors="pt")["pixel_values"]
        if not torch.isfinite(values).all():
            raise ValueError(
                f"the image processor in {directory} makes NaN or Inf of images: mend its "
                f"image_mean, image_std and rescale_factor"
            )
        return values

    return pixels


def _in_mode(mode: str | None, image: Image.Image) -> Image.Image:
    return image if mode in (None, image.mode) else image.convert(mode)


def _eight_bit(image: Image.Image) -> Image.Image:
    """An image of 16 bits in 8, which Pillow's own conversion only cuts off at 255."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels are numbers of 32 bits (mode {image.mode}), of which none is known to be "
            f"white: save it in 8 or 16 bits"
        )
    return image


def _channels(config: PretrainedConfig) -> int:
    """How many a model's images have; 0 if its configuration does not say."""
    of_timm = (getattr(config, "pretrained_cfg", None) or {}).get("input_size", [0])[0]
    return getattr(config, "num_channels", of_timm)


def _images(
    rows: datasets.Dataset, columns: str | Sequence[str], model: Checkpoint
) -> dict[str, Tensor]:
    column, *more = _list(columns)
    if more or not isinstance(rows.features[column], datasets.Image):
        raise ValueError(
            f"column {columns!r} holds {rows.features[column]}, expected images (datasets.Image)"
        )
    prepare = open_image_processor(model.processor or model.location, model.config)
    chunks = _chunks(rows, column)
    pixels = torch.empty(0)
    for start, images in zip(range(0, len(rows), CHUNK), chunks, strict=True):
        values = prepare(images)
        pixels = pixels if start else values.new_empty((len(rows), *values.shape[1:]))
        if values.shape[1:] != pixels.shape[1:]:
            raise ValueError(
                f"images become of shape {tuple(pixels.shape[1:])} and {tuple(values.shape[1:])}: "
                f"bring them to one size, or let the image processor of {model.location} do so"
            )
        pixels[start : start + CHUNK] = values
    return {"pixel_values": pixels}


def _chunks(rows: datasets.Dataset, column: str) -> Iterator[list[Image.Image]]:
    """The images in order, `CHUNK` of them at a time."""
    stored, mode = _as_stored(rows, column), rows.features[column].mode
    for start in range(0, len(rows), CHUNK):
        values = stored[start : start + CHUNK][column].to_pylist()
        yield [_decoded(value, mode, row) for row, value in enumerate(values, start)]


def _decoded(stored: Any, mode: str | None, row: int) -> Image.Image:
    try:
        return _in_mode(mode, _eight_bit(datasets.Image().decode_example(stored)))
    except Exception as error:  # Pillow raises what it likes for a damaged file
        file = stored["path"] if isinstance(stored, Mapping) and stored["path"] else "no file"
        raise ValueError(
            f"the image of row {row}, counted from 0 ({shortened(file)}), cannot be read: "
            f"{shortened(str(error))}"
        ) from None


def _as_stored(rows: datasets.Dataset, column: str) -> datasets.Dataset:
    """One column in Arrow's format, in which nothing is decoded."""
    return rows.select_columns([column]).with_format("arrow")


def _values(rows: datasets.Dataset, column: str) -> list[Any]:
    return _as_stored(rows, column)[:][column].to_pylist()


def _strings(rows: datasets.Dataset, column: str | Sequence[str]) -> list[str]:
    [name] = _list(column)
    values = _values(rows, name)
    if not all(isinstance(value, str) for value in values):
        raise ValueError(
            f"column {name!r} holds {rows.features[name]}, expected a text in each row"
        )
    return values


def _choices(rows: datasets.Dataset, columns: str | Sequence[str]) -> list[list[str]]:
    """The choices of each row, from one column of lists or from a column each."""
    if isinstance(columns, str):
        choices = _values(rows, columns)
    else:
        choices = list(map(list, zip(*(_strings(rows, name) for name in columns), strict=True)))
    count = len(choices[0]) if isinstance(choices[0], list) else 0
    if not count or not all(_are_texts(texts, count) for texts in choices):
        raise ValueError(
            f"column {columns!r} does not hold a list of the same number of texts in each row"
        )
    return choices


def _are_texts(values: Any, count: int) -> bool:
    fits = isinstance(values, list) and len(values) == count
    return fits and all(isinstance(value, str) for value in values)


def _list(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names
