"""Which settings of an operator mean the same as which settings of a mergekit method."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One operator and one mergekit method under equal conventions.

    Attributes:
        operator, settings: ours.
        method, parameters: mergekit's.
        base: whether the pretrained values are mergekit's base model or no input at all.
        experts: how many experts.
        flat: whether the convention is only equal on vectors, so that matrices are flattened.
        shrink: multiply our change by this before comparing.
        agreeing: whether all task vectors get a common part, so that their cosines are positive.
        support: whether to compare which entries change, instead of by how much.
    """

    operator: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    base: bool = True
    experts: int = 3
    flat: bool = False
    shrink: float = 1.0
    agreeing: bool = False
    support: bool = False


THREE = (0.5, 1.0, 0.25)

CASES = (
    Case("average", "linear", parameters={"weight": 1.0}, base=False),
    Case("average", "linear", {"weight": THREE}, {"weight": THREE}, base=False),
    Case("task_arithmetic", "task_arithmetic", {"weight": 0.3}, {"weight": 0.3}),
    Case("task_arithmetic", "task_arithmetic", {"weight": THREE}, {"weight": THREE}),
    Case("ties", "ties", {"density": 0.2}, {"weight": 1.0, "density": 0.2}),
    Case("ties", "ties", {"density": 1}, {"weight": 1.0, "density": 1.0}),
    Case(
        "ties",
        "ties",
        {"density": 0.5, "weight": 0.7},
        {"weight": 1.0, "density": 0.5, "lambda": 0.7},
    ),
    Case(
        "ties",
        "ties",
        {"density": 0.2, "weight": THREE, "consensus": "sum"},
        {"weight": THREE, "density": 0.2, "normalize": False},
    ),
    # mergekit no longer divides by the density, so the same factor is taken out of ours.
    Case(
        "dare",
        "dare_linear",
        {"density": 0.5},
        {"weight": 1.0, "density": 0.5, "rescale": False},
        shrink=0.5,
    ),
    Case(
        "dare",
        "dare_linear",
        {"density": 0.66, "weight": THREE, "rescale": "l1"},
        {"weight": THREE, "density": 0.66},
    ),
    Case(
        "dare_ties",
        "dare_ties",
        {"density": 0.66, "rescale": "l1", "consensus": "sum"},
        {"weight": 1.0, "density": 0.66},
    ),
    Case(
        "dare_ties",
        "dare_ties",
        {"density": 0.5},
        {"weight": 1.0, "density": 0.5, "rescale": False, "normalize": True},
        shrink=0.5,
    ),
    Case(
        "breadcrumbs",
        "breadcrumbs",
        {"density": 0.25, "gamma": 0.125, "weight": 0.2},
        {"weight": 0.2, "density": 0.25, "gamma": 0.125},
        flat=True,
    ),
    # With a window ours divides each entry by its own probability and mergekit does not, so that
    # only which entries are kept can be compared.
    Case(
        "della",
        "della_linear",
        {"density": 0.5, "epsilon": 0.3},
        {"weight": 1.0, "density": 0.5, "epsilon": 0.3},
        experts=1,
        support=True,
    ),
    Case(
        "della",
        "della",
        {"density": 0.5, "epsilon": 0},
        {"weight": 1.0, "density": 0.5, "epsilon": 0.0, "rescale": False},
        shrink=0.5,
    ),
    Case("slerp", "slerp", {"t": 0.3}, {"t": 0.3}, base=False, experts=2),
    Case("slerp", "slerp", {"t": 0.3}, {"t": 0.3}, base=False, experts=2, agreeing=True),
    Case("nuslerp", "nuslerp", parameters={"weight": 1.0}, experts=2),
    Case("nuslerp", "nuslerp", {"weight": (1, 3)}, {"weight": (1.0, 3.0)}, experts=2),
    Case("karcher", "karcher", base=False),
    Case("model_stock", "model_stock", agreeing=True),
    Case("sce", "sce", {"density": 1}, {"select_topk": 1.0}),
    Case("sce", "sce", {"density": 0.25}, {"select_topk": 0.25}),
    Case("ram", "ram"),
    Case("ram", "ram", {"epsilon": 0.5}, {"epsilon": 0.5}),
)

WITHOUT_MERGEKIT = {
    "balanced_task_arithmetic": "by hand",
    "consensus": "by hand",
    "emr": "by hand",
    "fisher": "by hand; its statistics by a loop over examples and classes",
    "iso_c": "by hand; its spectrum",
    "magmax": "by hand",
    "pcb": "the formula by sorting, in NumPy",
    "regmean": "least squares over the union of the inputs, in NumPy",
    "tsv_m": "by hand; orthogonalisation by eigendecomposition, in NumPy",
}
"""Operators that mergekit does not have, and what the tests hold them against instead."""
