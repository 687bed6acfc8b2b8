"""How a pure function becomes an operator: the decorator, the look-up and the checks.

An operator's settings are its function's keyword-only arguments; what each may be is read from its
annotation (see ``merge_gym.settings``). Three keywords are no settings; the caller gives them:

- ``generator: torch.Generator | None = None``: the operator draws random numbers. A call draws one
  number for each entry of each expert and no more, whatever the settings and values: what
  ``torch.rand`` of the tensor's shape draws in float32, expert by expert. So the model's draws come
  tensor by tensor, in each expert by expert, and a CPU generator can be moved to where any of the
  tensors begins.
- ``statistics``: the operator looks at data, through one tensor per expert, which the decorator's
  ``needs`` names and the caller collects.
- ``facts``: the operator's scope is the model, but the result at an entry depends on the other
  entries through a few numbers only, such as thresholds or norms. The decorator's ``whole``
  computes them; with these, a call on any stretch of the model gives the same bits as that stretch
  of a call on the whole. Without them the function takes them from the tensors it is given.

Two settings belong to every operator and are never seen by its function, since they say how it is
called: ``scope``, which values a call receives, and ``seed``, for those that draw.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from merge_gym.messages import taken_name, unknown_name
from merge_gym.settings import Range, Setting, Weight, check_settings, settings_of_function

__all__ = [
    "Operator",
    "Range",
    "Scope",
    "Statistic",
    "Weight",
    "available",
    "check",
    "get",
    "merge",
    "operator",
]

_GIVEN = ("generator", "statistics", "facts")
"""Keywords of an operator's function that are no settings."""

Scope = Literal["tensor", "layer", "model"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

Statistic = Literal["gram", "fisher"]
"""What an operator may need to know of an expert's data: ``gram``, XᵀX of the inputs of a linear
layer's weight, shape (inputs, inputs), which takes forward passes; ``fisher``, the diagonal of the
Fisher information in the tensor's own shape, which takes gradients."""

Function = TypeVar("Function", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Operator:
    """A merge operator: its function and what its signature and decorator say about it.

    Attributes:
        name: what it is called in recipes and configurations; the function's own name.
        function: ``(pretrained, experts, **settings) -> merged``, without any checks.
        scope: the values one call receives unless the caller overrides it: one ``tensor``, or all
            values of one ``layer`` or of the whole ``model`` laid end to end.
        scopes: the scopes it may be used with; an operator on matrices has ``tensor`` only.
        settings: what may be set, by name, in the order of the signature.
        draws: whether the function takes a ``generator``.
        needs: which ``statistics`` the function takes, if any.
        whole: ``(pretrained, experts, **settings) -> facts`` if the function takes ``facts``; given
            the values of the whole model and every setting but ``scope`` and ``seed``.
        min_experts, max_experts: how many experts it can merge; no upper bound is ``None``.
    """

    name: str
    function: Callable[..., Tensor]
    scope: Scope
    scopes: tuple[Scope, ...]
    settings: Mapping[str, Setting]
    draws: bool
    needs: Statistic | None
    min_experts: int
    max_experts: int | None
    whole: Callable[..., Any] | None = None


_OPERATORS: dict[str, Operator] = {}


def operator(
    *,
    scope: Scope,
    scopes: tuple[Scope, ...] = SCOPES,
    experts: tuple[int, int | None] = (1, None),
    needs: Statistic | None = None,
    whole: Callable[..., Any] | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function as an operator under its own name.

    The function comes back as it was, so that other operators and tests can call it bare.

    Args:
        scope: the published scope of the operator's statistics.
        scopes: what a caller may override it with.
        experts: the least and the greatest number of experts.
        needs: which statistics the function takes as its keyword ``statistics``.
        whole: what computes the ``facts`` that the function takes as its keyword.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        if name in _OPERATORS:
            raise ValueError(taken_name("operator", name, _OPERATORS[name].function))
        _OPERATORS[name] = Operator(
            name=name,
            function=function,
            scope=scope,
            scopes=scopes,
            settings=settings_of_function(function, but=_GIVEN),
            draws="generator" in signature(function).parameters,
            needs=needs,
            min_experts=experts[0],
            max_experts=experts[1],
            whole=whole,
        )
        return function

    return register


def available() -> tuple[str, ...]:
    """The names of all operators, sorted."""
    return tuple(sorted(_OPERATORS))


def get(name: str) -> Operator:
    """The operator called ``name``; an unknown name is a ``ValueError`` with the nearest ones."""
    if name not in _OPERATORS:
        raise ValueError(unknown_name("operator", name, available()))
    return _OPERATORS[name]


def check(name: str, settings: Mapping[str, Any], experts: int) -> dict[str, Any]:
    """Validate an operator's settings before any heavy work and fill in the defaults.

    Args:
        name: the operator.
        settings: what was given; may hold ``scope`` and, if the operator draws, ``seed``.
        experts: how many experts are to be merged.

    Returns:
        The complete settings in the order of the signature, then ``scope``, and ``seed`` if the
        operator draws (0 by default). Two ways to write the same settings give equal results:
        numbers are floats, lists are tuples.

    Raises:
        ValueError: an unknown operator or setting, a value out of range, or too few or too many
            experts.
    """
    found = get(name)
    _check_count(found, experts)
    known = {**found.settings, **_common_settings(found)}
    given = check_settings(f"setting of operator {name!r}", settings, known, experts)
    return {key: setting.default for key, setting in known.items()} | given


def _common_settings(found: Operator) -> dict[str, Setting]:
    common = {"scope": Setting("scope", found.scope, "choice", choices=found.scopes)}
    if found.draws:
        common["seed"] = Setting("seed", 0, "integer", Range(0, 2**32 - 1))
    return common


def _check_count(found: Operator, experts: int) -> None:
    low, high = found.min_experts, found.max_experts
    if experts < low or (high is not None and experts > high):
        wanted = f"exactly {low}" if low == high else f"at least {low}"
        raise ValueError(
            f"Operator {found.name!r} merges {wanted} expert{'s' if low > 1 else ''}, "
            f"but {experts} {'was' if experts == 1 else 'were'} given; "
            f"choose another operator or other experts."
        )


def merge(name: str, pretrained: Tensor, experts: Sequence[Tensor], **settings: Any) -> Tensor:
    """Merge one tensor's values with the operator called ``name``.

    Checks the settings and the tensors, then calls the operator's function without recording
    gradients. For an operator whose scope is a layer or the model, hand in that layer's or model's
    values as one flat vector, or, with ``facts`` of the whole model, any stretch of them.

    Args:
        name: the operator.
        pretrained: the pretrained model's values.
        experts: each expert's values; same shape, dtype and device as ``pretrained``.
        settings: as ``check`` takes them. An operator that draws also takes ``generator``, so that
            one stream of random numbers can run through many calls; without it a fresh generator
            is seeded with ``seed``. One that needs statistics takes ``statistics``, one tensor per
            expert (see ``Statistic``); without it the tensor counts as having none. One with
            ``whole`` takes ``facts``; without them they are taken from these very tensors.

    Returns:
        A new tensor with the shape, dtype and device of ``pretrained``.

    Raises:
        ValueError: as ``check`` and ``check_tensors``, or statistics that do not fit the tensors.
    """
    found = get(name)
    generator = settings.pop("generator", None) if found.draws else None
    statistics = settings.pop("statistics", None) if found.needs else None
    facts = settings.pop("facts", None) if found.whole else None
    if generator is not None and "seed" in settings:
        raise ValueError(f"Operator {name!r}: give either a generator or a seed, not both.")
    passed = check(name, settings, len(experts))
    check_tensors(pretrained, experts)
    del passed["scope"]
    if found.draws:
        seed = passed.pop("seed")
        passed["generator"] = generator or torch.Generator().manual_seed(seed)
    if statistics is not None:
        _check_statistics(found, pretrained, statistics, len(experts))
        passed["statistics"] = statistics
    if facts is not None:
        passed["facts"] = facts
    with torch.no_grad():
        return found.function(pretrained, experts, **passed)


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
