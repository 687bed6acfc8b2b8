"""Reading a suite file, with every check that can be made before anything heavy runs."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import datasets
from transformers import PretrainedConfig

from merge_gym.messages import unknown_name
from merge_gym.models import (
    Checkpoint,
    adapter_for,
    check_checkpoint,
    check_forward,
    common_dtype,
    load_checkpoint,
)
from merge_gym.models.checkpoint import differences, processor_directory
from merge_gym.models.files import local_directory, weights_size
from merge_gym.models.storage import Allocate, in_memory, on_disk, physical_memory
from merge_gym.suites.data import check_columns, fingerprints, make_split
from merge_gym.suites.description import SPLITS, TaskDescription, read_description
from merge_gym.suites.problems import Problems
from merge_gym.suites.rows import read_rows
from merge_gym.suites.sequences import end_to_end
from merge_gym.suites.suite import Suite, Task
from merge_gym.suites.text import check_same_words, check_vocabulary

SHIPPED = Path(__file__).parent / "shipped"
PRETRAINED = "the pretrained model"

Rows = Mapping[tuple[str, str], datasets.Dataset]
"""The rows of each task's splits, by the names of both."""

Tasks = Mapping[str, TaskDescription]


def list_suites() -> tuple[str, ...]:
    """Names of the suites that ship with the package."""
    return tuple(sorted(_shipped()))


def load_suite(suite: str | Path, mapped: bool | None = None) -> Suite:
    """Open a shipped suite by name, or any suite by the path of its file.

    All that is wrong is said at once: first what needs no weights (the description, the
    checkpoints' files and configurations, the data and its columns), then, where that is in order,
    what weights and preprocessed examples show. Without `tasks` a suite can be inspected, and
    recipes of it exported, but nothing scored.

    Args:
        suite: the name or path.
        mapped: whether weights, merged ones too, lie in temporary files that are mapped into
            memory, for more candidates than memory holds. None: where pretrained model, experts
            and the suite's own operators would take more than half of the machine's memory.

    Raises:
        ValueError: an unknown name, a file that lacks a field, experts that differ from the
            pretrained model, damaged weights, columns or classes that are not there, empty or
            overlapping splits, labels outside the head; or several things.
        OSError: a checkpoint, processor or data file that is not there.
    """
    path = _suite_path(suite)
    description = read_description(path)
    problems = Problems()
    base = _location(path, description.pretrained)
    places = {name: _location(path, place) for name, place in description.experts.items()}
    used = {task.expert for task in description.tasks.values()}
    _check_models(base, places, used, problems)
    rows = _read_data(path, description.tasks, problems)
    problems.check()
    allocate = _allocator(mapped, base, 1 + len(places) + len(description.operators))
    pretrained, experts = _load_models(base, places, used, allocate, problems)
    tasks = _load_tasks(description.tasks, rows, experts, problems)
    problems.check()
    _check_runs(tasks, experts)
    assert pretrained is not None
    return Suite(
        name=description.name,
        description=description.description,
        licence=description.licence,
        pretrained=pretrained,
        experts=experts,
        tasks=tasks,
        operators=description.operators,
        shared=description.shared,
        allocate=allocate,
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


def _location(path: Path, place: str) -> str:
    """A path beside the suite file if it is there, else a hub name."""
    beside = path.parent / place
    return str(beside) if beside.exists() or place.startswith((".", "/")) else place


def _check_models(
    pretrained: str, experts: Mapping[str, str], used: Container[str], problems: Problems
) -> None:
    """All that can be said against the checkpoints without reading weights; those that tasks use
    need a processor."""
    ours, readers = None, list[Path]()
    with problems.about(PRETRAINED):
        ours = check_checkpoint(pretrained)
    for name, place in experts.items():
        with problems.about(f"expert {name!r}"):
            theirs = check_checkpoint(place, base=pretrained)
            if ours is not None and (found := differences(theirs, ours)):
                raise ValueError(_no_fine_tune(place, pretrained, found))
            if name in used:
                _check_processor(place, pretrained, theirs, readers)


def _check_processor(
    location: str, pretrained: str, config: PretrainedConfig, readers: list[Path]
) -> None:
    """It has one, and a tokenizer that agrees with the first of `readers`, which it joins."""
    directory = processor_directory(location, base=pretrained)
    if directory is None:
        raise FileNotFoundError(
            f"{location} holds neither tokenizer nor image processor: copy the one that it was "
            f"trained with there"
        )
    if adapter_for(config).model_class().main_input_name != "pixel_values":
        check_vocabulary(Path(directory))
        readers.append(Path(directory))
        check_same_words(readers[-1], readers[0])


def _allocator(mapped: bool | None, pretrained: str, models: int) -> Allocate:
    """Where the weights of so many models are to lie."""
    if mapped is None:
        mapped = 2 * models * weights_size(local_directory(pretrained)) > physical_memory()
    return on_disk if mapped else in_memory


def _load_models(
    pretrained: str,
    experts: Mapping[str, str],
    used: Container[str],
    allocate: Allocate,
    problems: Problems,
) -> tuple[Checkpoint | None, dict[str, Checkpoint]]:
    """The pretrained model and the experts, those that are in order; those that tasks use need a
    head."""
    base, models = None, {}
    dtype = common_dtype([pretrained, *experts.values()], base=pretrained)
    like = check_checkpoint(next(iter(experts.values())), base=pretrained)
    with problems.about(PRETRAINED):
        base = load_checkpoint(
            pretrained, need_head=False, allocate=allocate, like=like, dtype=dtype
        )
    for name, place in experts.items():
        with problems.about(f"expert {name!r}"):
            models[name] = load_checkpoint(
                place, need_head=name in used, allocate=allocate, dtype=dtype, base=pretrained
            )
            if base is not None:
                _check_same_architecture(models[name], base)
    return base, models


def _check_runs(tasks: Mapping[str, Task], experts: Mapping[str, Checkpoint]) -> None:
    """ValueError unless a model runs as stem, layers and tail just as by its own `forward`."""
    for task in list(tasks.values())[:1]:
        inputs = task.splits["search"][:2].inputs
        check_forward(
            experts[task.expert], {name: end_to_end(value) for name, value in inputs.items()}
        )


def _check_same_architecture(expert: Checkpoint, pretrained: Checkpoint) -> None:
    theirs, ours = _signature(expert), _signature(pretrained)
    found = [f"lacks {key}" for key in ours if key not in theirs]
    found += [f"has {key}, which the pretrained model lacks" for key in theirs if key not in ours]
    found += [
        f"{key} is {theirs[key]} instead of {ours[key]}"
        for key in ours
        if key in theirs and theirs[key] != ours[key]
    ]
    if found:
        raise ValueError(_no_fine_tune(expert.location, pretrained.location, found))


def _no_fine_tune(expert: str, pretrained: str, found: Sequence[str]) -> str:
    shown = "; ".join(found[:8])
    more = f"; and {len(found) - 8} more" if len(found) > 8 else ""
    return (
        f"{expert} was not fine-tuned from the pretrained model ({pretrained}): {shown}{more}. "
        f"Name the model that all experts began as, and leave out those that began as another"
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


def _read_data(path: Path, tasks: Tasks, problems: Problems) -> Rows:
    rows = {}
    for name, task in tasks.items():
        for split in SPLITS:
            with problems.about(f"the {split} split of task {name!r}"):
                rows[name, split] = read_rows(task.data[split], path.parent)
                check_columns(rows[name, split], task.columns, task.metric)
    return rows


def _load_tasks(
    tasks: Tasks, rows: Rows, models: Mapping[str, Checkpoint], problems: Problems
) -> dict[str, Task]:
    """The tasks of the experts that are there, with the splits that are in order."""
    loaded = {}
    for name, task in tasks.items():
        splits = {}
        for split in SPLITS if task.expert in models else ():
            with problems.about(f"the {split} split of task {name!r}"):
                splits[split] = make_split(
                    rows[name, split],
                    task.columns,
                    task.metric,
                    task.max_length,
                    models[task.expert],
                )
        with problems.about(f"task {name!r}"):
            _check_disjoint(
                [
                    fingerprints(rows[name, which], split, task.columns)
                    for which, split in splits.items()
                ]
            )
        loaded[name] = Task(name, task.expert, task.metric, splits)
    return loaded


def _check_disjoint(splits: Sequence[Iterable[Hashable]]) -> None:
    common = set.intersection(*map(set, splits)) if len(splits) > 1 else ()
    if common:
        raise ValueError(
            f"{len(common)} examples stand in both its search and its test split; take them out of "
            f"one"
        )
