"""Reading a suite file, with every check that can be made before anything heavy runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from merge_gym.messages import unknown_name
from merge_gym.models import Checkpoint, check_checkpoint, load_checkpoint
from merge_gym.models.checkpoint import differences, processor_directory
from merge_gym.suites.data import load_split
from merge_gym.suites.metrics import METRICS
from merge_gym.suites.suite import Split, Suite, Task

SHIPPED = Path(__file__).parent / "shipped"
REQUIRED = ("name", "pretrained", "experts", "tasks")
TASK_REQUIRED = ("expert", "columns", "data")
COLUMNS = ("input", "label")
SPLITS = ("search", "test")
DEFAULT_METRIC = "accuracy"


def list_suites() -> tuple[str, ...]:
    """Names of the suites that ship with the package."""
    return tuple(sorted(_shipped()))


def load_suite(suite: str | Path) -> Suite:
    """Open a shipped suite by name, or any suite by the path of its file.

    Raises:
        ValueError: an unknown name, a file that lacks a field, experts that differ from the
            pretrained model, damaged weights, empty or overlapping splits, labels outside the head.
        OSError: a checkpoint or data file that is not there.
    """
    path = _suite_path(suite)
    description = _read(path)
    base = _location(path, description["pretrained"])
    places = {name: _location(path, place) for name, place in description["experts"].items()}
    _check_models(base, places)
    with _blaming("the pretrained model"):
        pretrained = load_checkpoint(base, need_head=False)
    models = {}
    for name, place in places.items():
        with _blaming(f"expert {name!r}"):
            models[name] = load_checkpoint(place)
    for name, model in models.items():
        _check_same_architecture(name, model, pretrained)
    tasks = {
        name: _load_task(path, name, task, models) for name, task in description["tasks"].items()
    }
    return Suite(
        name=description["name"],
        description=description.get("description", ""),
        licence=description.get("licence", ""),
        pretrained=pretrained,
        experts=models,
        tasks=tasks,
        operators=tuple(description.get("operators", ("average", "task_arithmetic", "ties"))),
        shared=description.get("shared", "average"),
    )


def _shipped() -> dict[str, Path]:
    return {file.stem: file for file in SHIPPED.glob("*/*.yaml")}


def _suite_path(suite: str | Path) -> Path:
    path = Path(suite)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"there is no suite file {str(path)!r}")
        return path.resolve()
    if str(suite) not in _shipped():
        raise ValueError(
            unknown_name("suite", str(suite), list_suites())
            + " A suite of your own is given by the path of its .yaml file."
        )
    return _shipped()[str(suite)]


def _read(path: Path) -> dict[str, Any]:
    try:
        description = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"the suite file {path} is not YAML: {error}") from None
    _check_fields(f"the suite file {path}", description, REQUIRED)
    for field in ("experts", "tasks"):
        _check_fields(f"{field!r} of {path}", description[field], ())
    for name, task in description["tasks"].items():
        _check_task(f"task {name!r} of {path}", task, description["experts"])
    return description


def _check_fields(where: str, given: Any, fields: Sequence[str]) -> None:
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{where} is a mapping with at least one field, got {given!r}")
    missing = [field for field in fields if field not in given]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}; it needs {', '.join(fields)}")


def _check_task(where: str, task: Any, experts: Mapping[str, str]) -> None:
    _check_fields(where, task, TASK_REQUIRED)
    _check_fields(f"'columns' of {where}", task["columns"], COLUMNS)
    _check_fields(f"'data' of {where}", task["data"], SPLITS)
    if task["expert"] not in experts:
        raise ValueError(f"{where}: {unknown_name('expert', task['expert'], experts)}")
    if (metric := task.get("metric", DEFAULT_METRIC)) not in METRICS:
        raise ValueError(f"{where}: {unknown_name('metric', metric, METRICS)}")


def _location(path: Path, place: str) -> str:
    """A path beside the suite file if it is there, else a hub name."""
    beside = path.parent / place
    return str(beside) if beside.exists() or place.startswith((".", "/")) else place


def _check_models(pretrained: str, experts: Mapping[str, str]) -> None:
    """All that can be said against the checkpoints without reading weights."""
    with _blaming("the pretrained model"):
        ours = check_checkpoint(pretrained)
    for name, place in experts.items():
        with _blaming(f"expert {name!r}"):
            theirs = check_checkpoint(place)
            _check_processor(place)
        if found := differences(theirs, ours):
            raise ValueError(_no_fine_tune(name, place, pretrained, found))


def _check_processor(location: str) -> None:
    if processor_directory(location) is None:
        raise FileNotFoundError(
            f"{location} holds neither tokenizer nor image processor: save it there with its "
            f"save_pretrained"
        )


@contextmanager
def _blaming(role: str) -> Iterator[None]:
    """Errors say which model they are about."""
    try:
        yield
    except (OSError, ValueError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{role}: {error}") from error


def _check_same_architecture(name: str, expert: Checkpoint, pretrained: Checkpoint) -> None:
    theirs, ours = _signature(expert), _signature(pretrained)
    found = [f"lacks {key}" for key in ours if key not in theirs]
    found += [f"has {key}, which the pretrained model lacks" for key in theirs if key not in ours]
    found += [
        f"{key} is {theirs[key]} instead of {ours[key]}"
        for key in ours
        if key in theirs and theirs[key] != ours[key]
    ]
    if found:
        raise ValueError(_no_fine_tune(name, expert.location, pretrained.location, found))


def _no_fine_tune(name: str, expert: str, pretrained: str, found: Sequence[str]) -> str:
    shown = "; ".join(found[:8])
    more = f"; and {len(found) - 8} more" if len(found) > 8 else ""
    return (
        f"expert {name!r} ({expert}) was not fine-tuned from the pretrained model ({pretrained}): "
        f"{shown}{more}"
    )


def _signature(model: Checkpoint) -> dict[str, str]:
    """Shape and dtype on disk of every mergeable tensor, by readable name."""
    return {
        ".".join(filter(None, (group[0], str(group[1]) if group[0] else "", slot.name))): (
            f"{list(slot.shape)} {model.dtype}"
        )
        for group, slots in model.parameters.layout.groups.items()
        for slot in slots
    }


def _load_task(
    path: Path, name: str, task: Mapping[str, Any], experts: Mapping[str, Checkpoint]
) -> Task:
    model = experts[task["expert"]]
    processor = model.processor or model.location
    splits = {
        split: load_split(path.parent / task["data"][split], task["columns"], processor)
        for split in SPLITS
    }
    _check_splits(name, splits, model.config.num_labels)
    return Task(name, task["expert"], task.get("metric", DEFAULT_METRIC), splits)


def _check_splits(task: str, splits: Mapping[str, Split], classes: int) -> None:
    for name, split in splits.items():
        outside = sorted({int(label) for label in split.labels if not 0 <= label < classes})
        if outside:
            raise ValueError(
                f"the {name} split of task {task!r} has labels {outside}, but its head has "
                f"{classes} classes, 0 to {classes - 1}"
            )
    common = set(_fingerprints(splits["search"])) & set(_fingerprints(splits["test"]))
    if common:
        raise ValueError(
            f"{len(common)} examples of task {task!r} stand in both its search and its test split; "
            f"take them out of one"
        )


def _fingerprints(split: Split) -> list[bytes]:
    columns = [value.flatten(1).numpy() for value in split.inputs.values()]
    return [b"".join(column[row].tobytes() for column in columns) for row in range(len(split))]
