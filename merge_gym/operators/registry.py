"""How a pure function becomes an operator: the decorator, the look-up and the checks.

An operator's hyper-parameters are its function's keyword arguments; what each may be is read from
its annotation::

    density: Annotated[float, Range(0, 1)] = 0.2     # a number within bounds
    weight: Weight = 1.0                             # one number, or one per expert
    consensus: Literal["mean", "sum"] = "mean"       # one of a few words
    generator: torch.Generator | None = None         # the operator draws random numbers

An operator that looks at data does so through ``statistics``, one tensor per expert, which the
decorator's ``needs`` names and the caller collects.

Two settings belong to every operator and are never seen by its function, since they say how it is
called: ``scope``, which values a call receives, and ``seed``, for those that draw.
"""

import difflib
import math
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from torch import Tensor

Scope = Literal["tensor", "layer", "model"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

Statistic = Literal["gram", "fisher"]
"""What an operator may need to know of an expert's data: ``gram``, XᵀX of the inputs of a linear
layer's weight, shape (inputs, inputs), which takes forward passes; ``fisher``, the diagonal of the
Fisher information in the tensor's own shape, which takes gradients."""

Weight = float | Sequence[float]
"""The λ of the papers: one number for all experts, or one per expert in their order."""

Kind = Literal["number", "integer", "flag", "choice"]
_KINDS: dict[Any, Kind] = {float: "number", int: "integer", bool: "flag"}

Function = TypeVar("Function", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Range:
    """The closed interval a number must lie in; stands beside the type in ``Annotated``."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.high):
            return "" if math.isinf(self.low) else f" of at least {self.low:g}"
        return f" from {self.low:.10g} to {self.high:.10g}"


@dataclass(frozen=True)
class Hyperparameter:
    """One hyper-parameter as the function's signature describes it."""

    name: str
    default: Any
    kind: Kind
    range: Range = Range()
    choices: tuple[str, ...] = ()
    per_expert: bool = False
    optional: bool = False

    def expected(self) -> str:
        """What a value must be, in words for an error message."""
        words = {
            "number": f"a finite number{self.range}",
            "integer": f"a whole number{self.range}",
            "flag": "true or false",
            "choice": " or ".join(repr(choice) for choice in self.choices),
        }[self.kind]
        if self.per_expert:
            words += ", or a list with one for each expert"
        return words + (", or none for the default" if self.optional else "")

    def check(self, value: Any, experts: int) -> Any:
        """Return ``value`` in its canonical type, or raise ``ValueError``."""
        if value is None and self.optional:
            return None
        if self.per_expert and isinstance(value, Sequence) and not isinstance(value, str):
            if len(value) != experts:
                raise ValueError(f"{len(value)} values for {experts} experts")
            return tuple(self._one(item) for item in value)
        return self._one(value)

    def _one(self, value: Any) -> Any:
        if self.kind == "flag" and isinstance(value, bool):
            return value
        if self.kind == "choice" and value in self.choices:
            return value
        if self.kind == "integer" and _is_number(value, Integral) and self._inside(value):
            return int(value)
        if self.kind == "number" and _is_number(value, Real) and self._inside(value):
            return float(value)
        raise ValueError(f"{value!r} is not allowed")

    def _inside(self, value: float) -> bool:
        return math.isfinite(value) and self.range.low <= value <= self.range.high


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


@dataclass(frozen=True)
class Operator:
    """A merge operator: its function and what its signature and decorator say about it.

    Attributes:
        name: what it is called in recipes and configurations; the function's own name.
        function: ``(pretrained, experts, **hyperparameters) -> merged``, without any checks.
        scope: the values one call receives unless the caller overrides it: one ``tensor``, or all
            values of one ``layer`` or of the whole ``model`` laid end to end.
        scopes: the scopes it may be used with; an operator on matrices has ``tensor`` only.
        hyperparameters: the specifications, in the order of the signature.
        draws: whether the function takes a ``generator``.
        needs: which ``statistics`` the function takes, if any.
        min_experts, max_experts: how many experts it can merge; no upper bound is ``None``.
    """

    name: str
    function: Callable[..., Tensor]
    scope: Scope
    scopes: tuple[Scope, ...]
    hyperparameters: tuple[Hyperparameter, ...]
    draws: bool
    needs: Statistic | None
    min_experts: int
    max_experts: int | None


_OPERATORS: dict[str, Operator] = {}


def operator(
    *,
    scope: Scope,
    scopes: tuple[Scope, ...] = SCOPES,
    experts: tuple[int, int | None] = (1, None),
    needs: Statistic | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function as an operator under its own name.

    The function comes back as it was, so that other operators and tests can call it bare.

    Args:
        scope: the published scope of the operator's statistics.
        scopes: what a caller may override it with.
        experts: the least and the greatest number of experts.
        needs: which statistics the function takes as its keyword ``statistics``.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        if name in _OPERATORS:
            raise ValueError(
                f"An operator named {name!r} is already defined in "
                f"{_OPERATORS[name].function.__module__}; give the new one another name."
            )
        hints = get_type_hints(function, include_extras=True)
        keywords = [p for p in signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        _OPERATORS[name] = Operator(
            name=name,
            function=function,
            scope=scope,
            scopes=scopes,
            hyperparameters=tuple(
                _specification(keyword, hints[keyword.name], name)
                for keyword in keywords
                if keyword.name not in ("generator", "statistics")
            ),
            draws=any(keyword.name == "generator" for keyword in keywords),
            needs=needs,
            min_experts=experts[0],
            max_experts=experts[1],
        )
        return function

    return register


def _specification(keyword: Parameter, annotation: Any, operator_name: str) -> Hyperparameter:
    """Read one hyper-parameter from its annotation and default."""
    parts = list(_parts(annotation))
    ranges = [part for part in parts if isinstance(part, Range)]
    plain = [part for part in parts if part not in (*ranges, type(None), Sequence[float])]
    choices = get_args(plain[0]) if get_origin(plain[0]) is Literal else ()
    kind = "choice" if choices else _KINDS.get(plain[0])
    if len(plain) > 1 or kind is None or keyword.default is Parameter.empty:
        raise TypeError(
            f"Operator {operator_name!r}: hyper-parameter {keyword.name!r} needs a default and an "
            f"annotation of float, int, bool, Literal or Weight, not {annotation!r}."
        )
    return Hyperparameter(
        name=keyword.name,
        default=keyword.default,
        kind=kind,
        range=ranges[0] if ranges else Range(),
        choices=choices,
        per_expert=Sequence[float] in parts,
        optional=type(None) in parts,
    )


def _parts(annotation: Any) -> Iterator[Any]:
    """The alternatives of a union and what ``Annotated`` adds to them, at any depth."""
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def available() -> tuple[str, ...]:
    """The names of all operators, sorted."""
    return tuple(sorted(_OPERATORS))


def get(name: str) -> Operator:
    """The operator called ``name``; an unknown name is a ``ValueError`` with the nearest ones."""
    if name not in _OPERATORS:
        raise ValueError(
            f"Unknown operator {name!r}.{_nearest(name, available())} "
            f"Available: {', '.join(available())}."
        )
    return _OPERATORS[name]


def check(name: str, hyperparameters: dict[str, Any], experts: int) -> dict[str, Any]:
    """Validate an operator's settings before any heavy work and fill in the defaults.

    Args:
        name: the operator.
        hyperparameters: what was given; may hold ``scope`` and, if the operator draws, ``seed``.
        experts: how many experts are to be merged.

    Returns:
        The complete settings: every hyper-parameter with its value, ``scope``, and ``seed`` if the
        operator draws (0 by default). Two ways to write the same settings give equal results:
        numbers are floats, lists are tuples.
    """
    found = get(name)
    _check_count(found, experts)
    known = {spec.name: spec for spec in (*found.hyperparameters, *_common_settings(found))}
    for given in hyperparameters:
        if given not in known:
            raise ValueError(
                f"Operator {name!r} has no hyper-parameter {given!r}."
                f"{_nearest(given, tuple(known))} It takes: {', '.join(known)}."
            )
    return {
        key: _checked(name, spec, hyperparameters.get(key, spec.default), experts)
        for key, spec in known.items()
    }


def _common_settings(found: Operator) -> tuple[Hyperparameter, ...]:
    scope = Hyperparameter("scope", found.scope, "choice", choices=found.scopes)
    seed = Hyperparameter("seed", 0, "integer", Range(0, 2**32 - 1))
    return (scope, seed) if found.draws else (scope,)


def _checked(name: str, spec: Hyperparameter, value: Any, experts: int) -> Any:
    try:
        return spec.check(value, experts)
    except ValueError as problem:
        raise ValueError(
            f"Operator {name!r}, hyper-parameter {spec.name!r}: {problem}; give {spec.expected()}."
        ) from None


def _check_count(found: Operator, experts: int) -> None:
    low, high = found.min_experts, found.max_experts
    if experts < low or (high is not None and experts > high):
        wanted = f"exactly {low}" if low == high else f"at least {low}"
        raise ValueError(
            f"Operator {found.name!r} merges {wanted} expert{'s' if low > 1 else ''}, "
            f"but {experts} {'was' if experts == 1 else 'were'} given; "
            f"choose another operator or other experts."
        )


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(name), names)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def merge(
    name: str, pretrained: Tensor, experts: Sequence[Tensor], **hyperparameters: Any
) -> Tensor:
    """Merge one tensor's values with the operator called ``name``.

    Checks the settings and the tensors, then calls the operator's function without recording
    gradients. For an operator whose scope is a layer or the model, hand in that layer's or model's
    values as one flat vector.

    Args:
        name: the operator.
        pretrained: the pretrained model's values.
        experts: each expert's values; same shape, dtype and device as ``pretrained``.
        hyperparameters: as ``check`` takes them. An operator that draws also takes ``generator``,
            so that one stream of random numbers can run through many calls; without it a fresh
            generator is seeded with ``seed``. One that needs statistics takes ``statistics``, one
            tensor per expert (see ``Statistic``); without it the tensor counts as having none.

    Returns:
        A new tensor with the shape, dtype and device of ``pretrained``.
    """
    found = get(name)
    generator = hyperparameters.pop("generator", None) if found.draws else None
    statistics = hyperparameters.pop("statistics", None) if found.needs else None
    if generator is not None and "seed" in hyperparameters:
        raise ValueError(f"Operator {name!r}: give either a generator or a seed, not both.")
    settings = check(name, hyperparameters, len(experts))
    check_tensors(pretrained, experts)
    del settings["scope"]
    if found.draws:
        seed = settings.pop("seed")
        settings["generator"] = generator or torch.Generator().manual_seed(seed)
    if statistics is not None:
        _check_statistics(found, pretrained, statistics, len(experts))
        settings["statistics"] = statistics
    with torch.no_grad():
        return found.function(pretrained, experts, **settings)


def check_tensors(pretrained: Tensor, experts: Sequence[Tensor]) -> None:
    """Raise ``ValueError`` unless the tensors can be merged, naming the one that cannot."""
    if not pretrained.is_floating_point() or pretrained.numel() == 0:
        raise ValueError(
            f"Only tensors of at least one floating-point value can be merged; pretrained has "
            f"dtype {pretrained.dtype} and shape {tuple(pretrained.shape)}."
        )
    wanted = _description(pretrained)
    for label, tensor in _labelled(pretrained, experts):
        if _description(tensor) != wanted:
            raise ValueError(
                f"{label} is {_description(tensor)} but pretrained is {wanted}; operators merge "
                f"tensors of one shape, dtype and device. Check that the experts were fine-tuned "
                f"from this pretrained model."
            )
        if not all(bool(torch.isfinite(extreme)) for extreme in tensor.aminmax()):
            bad = tensor.numel() - int(torch.isfinite(tensor).sum())
            raise ValueError(
                f"{label} holds {bad} NaN or infinite value{'s' if bad > 1 else ''} out of "
                f"{tensor.numel()}; repair or leave out that model."
            )


def _check_statistics(
    found: Operator, pretrained: Tensor, statistics: Sequence[Tensor], experts: int
) -> None:
    shape = tuple(pretrained.shape)
    if found.needs == "gram" and len(shape) != 2:
        raise ValueError(
            f"Operator {found.name!r}: only matrices have Gram matrices of their inputs, this "
            f"tensor has shape {shape}; leave statistics out."
        )
    wanted = (shape[1], shape[1]) if found.needs == "gram" else shape
    given = [tuple(statistic.shape) for statistic in statistics]
    if given != [wanted] * experts:
        raise ValueError(
            f"Operator {found.name!r}: statistics of shapes {given} were given; give {experts}, "
            f"one per expert, of shape {wanted}."
        )
    if not all(bool(torch.isfinite(statistic).all()) for statistic in statistics):
        raise ValueError(f"Operator {found.name!r}: the statistics hold NaN or infinite values.")


def _labelled(pretrained: Tensor, experts: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    return [
        ("pretrained", pretrained),
        *((f"experts[{index}]", expert) for index, expert in enumerate(experts)),
    ]


def _description(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
