"""Typed settings with ranges, read from annotations: of operators, agents, spaces.

What a setting may be is read from its annotation::

    density: Annotated[float, Range(0, 1)] = 0.2     # a number within bounds
    weight: Weight = 1.0                             # one number, or one per expert
    consensus: Literal["mean", "sum"] = "mean"       # one of a few words
    groups: Annotated[int, Range(1)] | None = None   # or none
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from merge_gym.messages import unknown_name

Weight = float | Sequence[float]
"""The λ of the papers: one number for all experts, or one per expert in their order."""

Kind = Literal["number", "integer", "flag", "choice", "text"]
_KINDS: dict[Any, Kind] = {float: "number", int: "integer", bool: "flag", str: "text"}


@dataclass(frozen=True)
class Range:
    """The closed interval a number must lie in; stands beside the type in ``Annotated``."""

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        """Whether a finite number lies in it; NaN does not."""
        return self.low <= value <= self.high and abs(value) != math.inf

    def __str__(self) -> str:
        if math.isinf(self.high):
            return "" if math.isinf(self.low) else f" of at least {self.low:.10g}"
        if math.isinf(self.low):
            return f" of at most {self.high:.10g}"
        return f" from {self.low:.10g} to {self.high:.10g}"


@dataclass(frozen=True)
class Setting:
    """One setting: its name, default, and what it may be.

    Attributes:
        kind: a `number`, an `integer`, a `flag`, a `choice` of a few words, or a `text`.
        range: of numbers.
        choices: of a choice.
        per_expert: whether a list with one value for each expert will do as well.
        optional: whether None will do as well.
    """

    name: str
    default: Any
    kind: Kind
    range: Range = Range()
    choices: tuple[str, ...] = ()
    per_expert: bool = False
    optional: bool = False

    def check(self, value: Any, experts: int = 0) -> Any:
        """The value in its canonical type, numbers as int or float and lists as tuples.

        Raises ValueError for anything else than what is expected; `experts` is how many values a
        list with one for each expert has.
        """
        if value is None and self.optional:
            return None
        many = self.per_expert and isinstance(value, Sequence) and not isinstance(value, str)
        values = [self._canonical(each) for each in value] if many else [self._canonical(value)]
        if None in values or (many and not 0 < len(values) == experts):
            raise ValueError(f"{self.name} is {self.expected(experts)}, got {value!r}")
        return tuple(values) if many else values[0]

    def expected(self, experts: int = 0) -> str:
        """What a value must be, in words for an error message."""
        words = {
            "number": f"a finite number{self.range}",
            "integer": f"a whole number{self.range}",
            "flag": "true or false",
            "choice": " or ".join(map(repr, self.choices)),
            "text": "a text",
        }[self.kind]
        if self.per_expert:
            words += f", or a list of {experts or 'them'}, one for each expert"
        return words + (", or none" if self.optional else "")

    def _canonical(self, value: Any) -> Any:
        """One value as int, float, bool or str; None if it is not allowed."""
        if self.kind == "flag":
            return value if isinstance(value, bool) else None
        if self.kind in ("choice", "text"):
            allowed = isinstance(value, str) and (self.kind == "text" or value in self.choices)
            return str(value) if allowed else None
        number = _whole(value) if self.kind == "integer" else _real(value)
        return number if number in self.range else None


def check_settings(
    what: str, given: Mapping[str, Any], known: Mapping[str, Setting], experts: int = 0
) -> dict[str, Any]:
    """The given settings in their canonical types.

    Args:
        what: what one of them is called in an error, such as "setting of agent 'ppo'".
        given: values by name.
        known: the settings that there are, by name.
        experts: how many values a list with one for each expert has.

    Raises ValueError for an unknown name, with the nearest ones, and for a value that is not what
    its setting expects.
    """
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise ValueError(unknown_name(what, name, known))
        try:
            checked[name] = known[name].check(value, experts)
        except ValueError as problem:
            raise ValueError(f"{what}: {problem}") from None
    return checked


def settings_of_function(
    function: Callable[..., Any], but: Collection[str] = ()
) -> dict[str, Setting]:
    """The settings of a function by name: its keyword-only arguments less those named in `but`.

    Raises TypeError for one without a default or with an annotation of another kind, ValueError
    for a default that its annotation does not allow.
    """
    hints = get_type_hints(function, include_extras=True)
    where = f"{function.__module__}.{function.__name__}"
    return {
        one.name: read_setting(one.name, hints.get(one.name), one.default, where)
        for one in signature(function).parameters.values()
        if one.kind is one.KEYWORD_ONLY and one.name not in but
    }


def settings_of_dataclass(cls: type[Any]) -> dict[str, Setting]:
    """The settings of a dataclass by name: the fields that its constructor takes, but for those
    whose metadata say `checked_elsewhere`.

    Raises TypeError for one without a default or with an annotation of another kind, ValueError
    for a default that its annotation does not allow.
    """
    hints = get_type_hints(cls, include_extras=True)
    where = f"{cls.__module__}.{cls.__qualname__}"
    return {
        one.name: read_setting(
            one.name,
            hints[one.name],
            Parameter.empty if one.default is dataclasses.MISSING else one.default,
            where,
        )
        for one in dataclasses.fields(cls)
        if one.init and not one.metadata.get("checked_elsewhere")
    }


def read_setting(name: str, annotation: Any, default: Any, where: str) -> Setting:
    """One setting from its annotation and default, `Parameter.empty` for none.

    Raises TypeError where these do not say what it is, ValueError where they disagree; `where`
    says in the error which function or class it stands in.
    """
    parts = list(_parts(annotation))
    ranges = [part for part in parts if isinstance(part, Range)]
    plain = [part for part in parts if part not in (*ranges, type(None), Sequence[float])]
    choices = get_args(plain[0]) if plain and get_origin(plain[0]) is Literal else ()
    words = choices and all(isinstance(choice, str) for choice in choices)
    kind: Kind | None = "choice" if words else _KINDS.get(plain[0]) if plain else None
    if len(plain) != 1 or kind is None or default is Parameter.empty:
        raise TypeError(
            f"{where}: {name!r} needs a default and an annotation of float, int, bool, str, "
            f"a Literal of texts or Weight, got {annotation!r}"
        )
    setting = Setting(
        name=name,
        default=default,
        kind=kind,
        range=ranges[0] if ranges else Range(),
        choices=choices,
        per_expert=Sequence[float] in parts,
        optional=type(None) in parts,
    )
    try:
        return dataclasses.replace(setting, default=setting.check(default))
    except ValueError as problem:
        raise ValueError(f"{where}: the default of {problem}") from None


def _parts(annotation: Any) -> Iterator[Any]:
    """The alternatives of a union and what ``Annotated`` adds to them, at any depth."""
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _whole(value: Any) -> float:
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else math.nan


def _real(value: Any) -> float:
    try:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number that no float can hold
        return math.inf
