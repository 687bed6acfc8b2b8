"""How a function of logits becomes a metric: the decorator, and what a metric says it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from merge_gym.messages import taken_name

UNSCORED = -100

ROLES = ("input", "label", "choices", "target")
"""What a column of the data may hold."""

Function = TypeVar("Function", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Metric:
    """A metric and what it needs.

    Attributes:
        name: what it is called in suite files; the function's own name.
        function: `(logits, labels) -> values`, shape (n,), or `(logits, labels, targets) -> values`
            of a language model.
        columns: the columns of the data that it needs; `input` may always be there.
        language: whether it scores a language model's tokens, not the classes of a head.
        argmax_only: whether it depends on nothing but which logit of an example is the largest, so
            that a path whose rounding differs may decide it.
        ends: whether a decoder's target is followed by the token that ends a text.
    """

    name: str
    function: Callable[..., Tensor]
    columns: tuple[str, ...]
    language: bool = False
    argmax_only: bool = False
    ends: bool = False

    def score(self, logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
        """One number for each example, shape (n,).

        Raises ValueError where the model predicts something else than the metric scores, or the
        function does not give one number for each example.
        """
        if self.language:
            _check_shape(self, logits, "one for each token and word", targets)
            values = self.function(logits, labels, targets)
        else:
            _check_shape(self, logits, "one for each example and class", labels)
            values = self.function(logits, labels)
        if values.shape != labels.shape:
            raise ValueError(
                f"the metric {self.name!r} gives values of shape {tuple(values.shape)}, expected "
                f"one for each example, {tuple(labels.shape)}: mend {self.function.__module__}"
            )
        return values


def _check_shape(metric: Metric, logits: Tensor, wanted: str, predicted: Tensor | None) -> None:
    if predicted is None or logits.shape[:-1] != predicted.shape:
        of = "none" if predicted is None else tuple(predicted.shape)
        raise ValueError(
            f"the metric {metric.name!r} scores logits, {wanted}: got logits of shape "
            f"{tuple(logits.shape)} for what is to be predicted of shape {of}. Choose a metric for "
            f"what the model predicts"
        )


METRICS: dict[str, Metric] = {}


def metric(
    *,
    columns: tuple[str, ...],
    language: bool = False,
    argmax_only: bool = False,
    ends: bool = False,
) -> Callable[[Function], Function]:
    """Register the decorated function as a metric under its own name; the function comes back as it
    was. What the arguments mean stands at `Metric`."""
    if unknown := [column for column in columns if column not in ROLES]:
        raise ValueError(
            f"a metric needs columns among {', '.join(ROLES)}, got {', '.join(map(repr, unknown))}"
        )

    def register(function: Function) -> Function:
        name = function.__name__
        if name in METRICS:
            raise ValueError(taken_name("metric", name, METRICS[name].function))
        METRICS[name] = Metric(name, function, columns, language, argmax_only, ends)
        return function

    return register
