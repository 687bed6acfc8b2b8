"""What a suite file says, as typed values: whatever is unknown or of another kind is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import yaml

from merge_gym.suites.metrics import METRICS
from merge_gym.suites.problems import Problems, shortened, shown, unknown
from merge_gym.suites.rows import SETTINGS, Place

SPLITS = ("search", "test")
OPTIONAL = "input"
"""The column that every metric may have."""

NAME_LENGTH = 100
MAX_LENGTH = 1_000_000
LARGEST = 3.4028234663852886e38
"""The largest number that a float32 holds."""

Source = str | Mapping[str, Any]
"""The name of an operator or expert, or `{name: …, settings}`."""


@dataclass(frozen=True)
class Given:
    """A value of the file, where it stands in the whole, and who is told what is wrong with it."""

    value: Any
    place: str
    whole: Any
    file: Path
    problems: Problems

    @property
    def subject(self) -> str:
        return f"{self.place} in {self.file}" if self.place else f"the suite file {self.file}"

    def must(self, fits: bool, expected: str) -> None:
        if not fits:
            raise ValueError(f"expected {expected}, got {shown(self.value)}")

    def must_be_mapping(self) -> None:
        fits = isinstance(self.value, Mapping) and bool(self.value)
        self.must(fits, "a mapping with at least one field")

    def must_have(
        self, required: Iterable[str], known: Iterable[str], kind: str = "setting"
    ) -> None:
        """Keep that it lacks fields, and each field that is not among the known ones."""
        if missing := [name for name in required if name not in self.value]:
            with self.problems.about(self.subject):
                raise ValueError(f"lacks {', '.join(missing)}; it needs {', '.join(required)}")
        for name in self.value:
            with self.problems.about(self.subject):
                if name not in known:
                    raise ValueError(unknown(kind, name, known))

    def at(self, name: str) -> Given:
        place = shortened(f"{self.place}.{name}" if self.place else str(name))
        return replace(self, value=self.value[name], place=place)

    def each(self, read: Mapping[str, Read]) -> dict[str, Any]:
        """What is read of the fields; without those that cannot be, of which is kept why."""
        values = {}
        for name in self.value:
            if name in read:
                inner = self.at(name)
                with self.problems.about(inner.subject):
                    values[name] = read[name](inner)
        return values


Read = Callable[[Given], Any]


def _text(given: Given) -> str:
    given.must(isinstance(given.value, str) and bool(given.value.strip()), "a text, not blank")
    return given.value


def _line(given: Given) -> str:
    given.must(_text(given).isprintable(), "one line of printable text")
    return given.value


def _max_length(given: Given) -> int:
    fits = type(given.value) is int and 1 <= given.value <= MAX_LENGTH
    given.must(fits, f"a number of tokens from 1 to {MAX_LENGTH}")
    return given.value


def _expert(given: Given) -> str:
    experts = given.whole.get("experts")
    name = _line(given)
    if isinstance(experts, Mapping) and name not in experts:
        raise ValueError(unknown("expert", name, map(str, experts)))
    return name


def _metric(given: Given) -> str:
    if _line(given) not in METRICS:
        raise ValueError(unknown("metric", given.value, METRICS))
    return given.value


def _columns(given: Given) -> dict[str, str | list[str]]:
    given.must_be_mapping()
    return given.each(dict.fromkeys(given.value, _column))


def _column(given: Given) -> str | list[str]:
    names = given.value if isinstance(given.value, list) and given.value else [given.value]
    fits = all(isinstance(name, str) and name for name in names)
    given.must(fits, "the name of a column, or a list of names")
    return given.value


def _data(given: Given) -> dict[str, Place]:
    given.must_be_mapping()
    given.must_have(SPLITS, SPLITS)
    return given.each(dict.fromkeys(SPLITS, _place))


def _place(given: Given) -> Place:
    if not isinstance(given.value, Mapping):
        return _text(given)
    given.must_have(["path"], SETTINGS)
    return given.each(dict.fromkeys(SETTINGS, _text))


def _named(read: Read) -> Read:
    """Reads a mapping whose keys are names."""

    def mapping(given: Given) -> dict[str, Any]:
        given.must_be_mapping()
        names = [name for name in given.value if _keep_name(given, name)]
        return given.each(dict.fromkeys(names, read))

    return mapping


def _keep_name(given: Given, name: Any) -> bool:
    """Whether it can be a file's; where it cannot, that is kept."""
    fits = (
        isinstance(name, str)
        and name.isprintable()
        and bool(name.strip())
        and len(name) <= NAME_LENGTH
        and not {"/", "\\"} & set(name)
        and name not in (".", "..")
    )
    with given.problems.about(given.subject):
        if not fits:
            raise ValueError(
                f"expected names that a folder can have (text in quotes where it is a number, up "
                f"to {NAME_LENGTH} characters, no slashes), got {shown(name)}"
            )
    return fits


def _operators(given: Given) -> tuple[Source, ...]:
    given.must(isinstance(given.value, list), "a list of operators")
    numbered = replace(given, value=dict(enumerate(given.value)))
    return tuple(numbered.each(dict.fromkeys(numbered.value, _source)).values())


def _source(given: Given) -> Source:
    if not isinstance(given.value, Mapping):
        given.must(isinstance(given.value, str), "a name, or a mapping with name and settings")
        return _line(given)
    given.must(all(isinstance(name, str) for name in given.value), "settings by name")
    given.must_have(["name"], given.value)
    given.each(dict.fromkeys(given.value, _setting) | {"name": _line})
    return given.value


def _setting(given: Given) -> None:
    values = given.value if isinstance(given.value, list) else [given.value]
    numbers = [value for value in values if isinstance(value, int | float)]
    given.must(all(abs(value) <= LARGEST for value in numbers), "finite numbers, in float32 too")


def _mapping(given: Given) -> Mapping[str, Any]:
    given.must(isinstance(given.value, Mapping), "a mapping")
    return given.value


Text = Annotated[str, _text]
Line = Annotated[str, _line]


@dataclass(frozen=True)
class TaskDescription:
    """One of the `tasks`.

    Attributes:
        expert: whose head and whose processor it uses.
        columns: which columns of the data hold what its metric needs.
        data: where the rows of each of `SPLITS` lie.
        metric: a name in `merge_gym.suites.metrics`.
        max_length: tokens of a sequence.
    """

    expert: Annotated[str, _expert]
    columns: Annotated[Mapping[str, str | list[str]], _columns]
    data: Annotated[Mapping[str, Place], _data]
    metric: Annotated[str, _metric] = "accuracy"
    max_length: Annotated[int, _max_length] = 128


def _task(given: Given) -> TaskDescription | None:
    task = _record(TaskDescription, given)
    if task is not None:
        needed = METRICS[task.metric].columns
        known = {*needed, OPTIONAL}
        given.at("columns").must_have(needed, known, f"column for the metric {task.metric!r}")
    return task


def _tasks(given: Given) -> dict[str, TaskDescription]:
    return _named(_task)(given) if given.value not in (None, {}) else {}


@dataclass(frozen=True)
class SuiteDescription:
    """A suite file.

    Attributes:
        name, pretrained: the suite's name, and where its pretrained model lies.
        experts: where each lies.
        tasks: what merges are scored on, if anything.
        operators, shared: the default bank, and the default source of the shared parameters.
        description, licence: words.
        provenance: whatever the file's author wants to keep in it.
    """

    name: Line
    pretrained: Line
    experts: Annotated[Mapping[str, str], _named(_line)]
    tasks: Annotated[Mapping[str, TaskDescription], _tasks] = field(default_factory=dict)
    operators: Annotated[tuple[Source, ...], _operators] = ("average", "task_arithmetic", "ties")
    shared: Annotated[Source, _source] = "average"
    description: Text = ""
    licence: Line = ""
    provenance: Annotated[Mapping[str, Any], _mapping] = field(default_factory=dict)


def read_description(file: Path) -> SuiteDescription:
    """Read a suite file; a ValueError says all that is wrong with it."""
    problems, whole = Problems(), _parse(file)
    given = Given(whole, "", whole, file, problems)
    with problems.about(given.subject):
        suite = _record(SuiteDescription, given)
    problems.check()
    return suite


def _record(kind: type, given: Given) -> Any:
    """The dataclass of the given fields; None where one of them is missing, unknown or wrong, which
    is kept."""
    given.must_be_mapping()
    readers, required = _fields(kind)
    given.must_have(required, readers)
    values = given.each(readers)
    return kind(**values) if values.keys() >= {*required, *given.value} else None


@cache
def _fields(kind: type) -> tuple[dict[str, Read], tuple[str, ...]]:
    """What reads each field of a dataclass, and the names of those without a default."""
    hints = get_type_hints(kind, include_extras=True)
    required = (
        entry.name
        for entry in fields(kind)
        if entry.default is MISSING and entry.default_factory is MISSING
    )
    return {name: hint.__metadata__[0] for name, hint in hints.items()}, tuple(required)


class _Loader(yaml.SafeLoader):
    """Refuses keys that stand twice, of which YAML keeps the last, and anchors."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "anchor", None):
            raise yaml.YAMLError(
                f"it names a value to use it again (&{event.anchor} or *{event.anchor}), which is "
                f"refused since nested ones fill any memory: write the value out"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:
            raise yaml.YAMLError(f"{shown(twice[0])} stands twice in one mapping: leave one")
        return super().construct_mapping(node, deep)


def _parse(file: Path) -> Any:
    content = file.read_bytes()
    try:
        return yaml.load(content, _Loader)
    except Exception as error:  # PyYAML raises what it likes: RecursionError, KeyError, …
        raise ValueError(f"the suite file {file} is not YAML: {shortened(str(error))}") from None
