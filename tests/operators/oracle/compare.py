"""Compare merge_gym's operators with mergekit's methods and write the table of the documentation.

Run from the project's root, in an environment that has mergekit (see the README beside this file)::

    python -m tests.operators.oracle.compare [--write]
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from mergekit.merge_methods.api import merge_tensors
from torch import Tensor

from merge_gym import operators
from tests.operators.oracle.cases import CASES, WITHOUT_MERGEKIT, Case
from tests.operators.oracle.page import PAGE, replace

SHAPES = ((40,), (16, 40), (40, 16), (320, 200))
SEEDS = range(5)
TOLERANCE = 1e-5


def models(case: Case, shape: tuple[int, ...], seed: int) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    pretrained = torch.randn(shape, generator=generator)
    common = torch.randn(shape, generator=generator) * case.agreeing
    experts = [
        pretrained + common + torch.randn(shape, generator=generator) for _ in range(case.experts)
    ]
    if case.flat:
        return pretrained.flatten(), [expert.flatten() for expert in experts]
    return pretrained, experts


@contextmanager
def same_draw(seed: int) -> Iterator[None]:
    """Let mergekit's ``torch.bernoulli`` draw the numbers that our operators draw."""
    original, generator = torch.bernoulli, torch.Generator().manual_seed(seed)

    def bernoulli(probability: Tensor) -> Tensor:
        return (torch.rand(probability.shape, generator=generator) < probability).to(probability)

    torch.bernoulli = bernoulli  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.bernoulli = original


def deviation(case: Case, shape: tuple[int, ...], seed: int) -> float:
    """The greatest difference between the two results, as a share of mergekit's largest change."""
    pretrained, experts = models(case, shape, seed)
    settings: dict[str, Any] = dict(case.settings)
    if operators.get(case.operator).draws:
        settings["seed"] = seed
    ours = operators.merge(case.operator, pretrained, experts, **settings) - pretrained
    with same_draw(seed):
        theirs = merge_tensors(
            [pretrained, *experts] if case.base else experts,
            case.method,
            parameters=case.parameters,
            base_index=0 if case.base or case.method == "slerp" else None,
        )
    change = theirs - pretrained
    if case.support:
        return float(((ours != 0) != (change != 0)).double().mean())
    return float((ours * case.shrink - change).abs().max() / change.abs().max())


def greatest_deviations() -> dict[str, float]:
    worst: dict[str, float] = {}
    for case in CASES:
        found = max(deviation(case, shape, seed) for shape in SHAPES for seed in SEEDS)
        print(f"{case.operator:26} {found:8.1e}  {dict(case.settings)}", flush=True)
        worst[case.operator] = max(found, worst.get(case.operator, 0.0))
    return worst


def section(text: str, heading: str) -> str:
    """A paragraph of a docstring by its heading, as one line."""
    found = re.search(rf"^{heading}: (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].replace("``", "`").split()) if found else "–"


def row(name: str, worst: dict[str, float]) -> str:
    found = operators.get(name)
    text = inspect.getdoc(found.function) or ""
    defaults = ", ".join(
        f"{name} {'1/N' if setting.default is None else setting.default}"
        for name, setting in found.settings.items()
    )
    scope = section(text, "Scope")
    if name in worst:
        methods = {case.method for case in CASES if case.operator == name}
        oracle = f"mergekit `{'`, `'.join(sorted(methods))}`; by hand"
        measured = f"{worst[name]:.0e}" if worst[name] else "0"
    else:
        oracle, measured = WITHOUT_MERGEKIT.get(name, "–"), "–"
    cells = (
        f"`{name}`",
        section(text, "Source"),
        defaults or "none",
        scope if scope.startswith("`") else f"`{found.scope}`; {scope}",
        section(text, "Elsewhere"),
        oracle,
        measured,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(worst: dict[str, float]) -> str:
    columns = (
        "operator|source|defaults|scope|what differs elsewhere|held against|greatest deviation"
    )
    head = f"| {' | '.join(columns.split('|'))} |\n|{'---|' * 7}"
    rows = "\n".join(row(name, worst) for name in operators.available())
    note = f"Measured with mergekit {version('mergekit')} and torch {torch.__version__}."
    return f"{head}\n{rows}\n\n{note}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"update the table in {PAGE}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    worst = greatest_deviations()
    if arguments.write:
        replace("table", table(worst))
    wrong = {name: value for name, value in worst.items() if value > TOLERANCE}
    if wrong:
        print(f"These deviate by more than {TOLERANCE}: {wrong}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
