"""Rows to tensors, once, through the model's own image processor or tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence

import datasets
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import AutoImageProcessor, PretrainedConfig

from merge_gym.models import Checkpoint, adapter_for
from merge_gym.suites import text
from merge_gym.suites.metrics import METRICS
from merge_gym.suites.suite import Split

Columns = Mapping[str, str | Sequence[str]]
"""The names of the columns that hold `input`, `label`, `choices`, `target`."""

OPTIONAL = "input"
MODES = {1: "L", 3: "RGB"}
CHUNK = 64
"""Images that are decoded at once."""


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
    labels = _labels(rows, str(columns["label"]))
    _check_classes(rows.features[columns["label"]], labels, model)
    if adapter_for(model.config).model_class().main_input_name == "pixel_values":
        return Split(_images(rows, columns["input"], model), labels)
    texts = [_strings(rows, name) for name in _list(columns["input"])]
    return Split(text.class_inputs(texts, max_length, model), labels)


def fingerprints(rows: datasets.Dataset, split: Split, columns: Columns) -> list[Hashable]:
    """For each example of a split a value that tells it from every other, whatever its label."""
    if "pixel_values" in split.inputs:
        return [hashlib.sha256(image.numpy()).digest() for image in split.inputs["pixel_values"]]
    names = [name for role in columns if role != "label" for name in _list(columns[role])]
    return [repr(texts) for texts in zip(*(rows[name][:] for name in names), strict=True)]


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
        labels = torch.zeros(len(rows), dtype=torch.int64)
    inputs, targets = text.language_inputs(
        [prompt for prompt, texts in zip(prompts, choices, strict=True) for _ in texts],
        [choice for texts in choices for choice in texts],
        max_length,
        model,
        ends=metric == "exact_match",
    )
    if "choices" in columns:
        inputs = {name: value.unflatten(0, (len(rows), -1)) for name, value in inputs.items()}
        targets = targets.unflatten(0, (len(rows), -1))
    return Split(inputs, labels, targets)


def _check_output(metric: str, model: Checkpoint) -> None:
    has_head = bool(adapter_for(model.config).head)
    if has_head == METRICS[metric].language:
        kind = "a head for classes" if has_head else "no head, as language models have none"
        fitting = [name for name, entry in METRICS.items() if entry.language != has_head]
        raise ValueError(
            f"the metric {metric!r} does not fit {model.location}, which has {kind}: choose "
            f"{' or '.join(fitting)}"
        )


def _labels(rows: datasets.Dataset, column: str) -> Tensor:
    labels = rows[column][:]
    if not all(isinstance(label, int) for label in labels):
        raise ValueError(
            f"column {column!r} holds {rows.features[column]}, expected a whole number in each row"
        )
    return torch.tensor(labels, dtype=torch.int64)


def _check_classes(feature: object, labels: Tensor, model: Checkpoint) -> None:
    """Labels fit the head; where the data names its classes, in the head's order."""
    _check_range("classes", labels, model.config.num_labels)
    if not isinstance(feature, datasets.ClassLabel):
        return
    ours, theirs = list(model.config.id2label.values()), list(feature.names)
    if len(ours) != len(theirs) or (ours != theirs and set(ours) == set(theirs)):
        raise ValueError(f"its classes are {', '.join(theirs)}, but the head's {', '.join(ours)}")


def _check_no_class_empty(rows: datasets.Dataset, column: str) -> None:
    feature = rows.features[column]
    if not isinstance(feature, datasets.ClassLabel):
        return
    numbers, present = set(range(len(feature.names))), set(rows[column][:])
    if present <= numbers and (empty := [feature.names[n] for n in sorted(numbers - present)]):
        raise ValueError(
            f"there is no example of the class {', '.join(empty)}: add some, or take the class out "
            f"of the data and the head"
        )


def _check_range(what: str, labels: Tensor, count: int) -> None:
    outside = sorted({int(label) for label in labels if not 0 <= label < count})
    if outside:
        raise ValueError(f"there are labels {outside}, but only {count} {what}, 0 to {count - 1}")


def open_image_processor(
    directory: str, config: PretrainedConfig
) -> Callable[[Sequence[Image]], Tensor]:
    """What turns images into the input of a model, float32, shape (n, channels, height, width).

    Args:
        directory: where the model's processor lies.
        config: the model's, whose channels images are brought to first.
    """
    mode = MODES.get(_channels(config))
    prepare = AutoImageProcessor.from_pretrained(directory, backend="pil", trust_remote_code=False)

    def pixels(images: Sequence[Image]) -> Tensor:
        converted = [image.convert(mode) if mode else image for image in images]
        return prepare(images=converted, return_tensors="pt")["pixel_values"]

    return pixels


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
    first = prepare(rows[:1][column])
    pixels = first.new_empty((len(rows), *first.shape[1:]))
    for start in range(0, len(rows), CHUNK):
        pixels[start : start + CHUNK] = prepare(rows[start : start + CHUNK][column])
    return {"pixel_values": pixels}


def _strings(rows: datasets.Dataset, column: str | Sequence[str]) -> list[str]:
    [name] = _list(column)
    values = rows[name][:]
    if not all(isinstance(value, str) for value in values):
        raise ValueError(
            f"column {name!r} holds {rows.features[name]}, expected a text in each row"
        )
    return values


def _choices(rows: datasets.Dataset, columns: str | Sequence[str]) -> list[list[str]]:
    """The choices of each row, from one column of lists or from a column each."""
    if isinstance(columns, str):
        choices = rows[columns][:]
    else:
        choices = list(map(list, zip(*(_strings(rows, name) for name in columns), strict=True)))
    if not all(isinstance(texts, list) and len(texts) == len(choices[0]) for texts in choices):
        raise ValueError(
            f"column {columns!r} does not hold a list of the same number of texts in each row"
        )
    return choices


def _list(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names
