"""What it costs to build a layer bank for a model of ViT-B/16's size, beside mergekit's merges.

Run from the project's root; without mergekit (see the README here) its columns stay empty::

    python -m tests.operators.oracle.speed [--write] [--repeats 3] [operator ...]

The suite is random and never touches the disk: a pretrained model, two experts, and eight images an
expert for the operators that look at data. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from experiments.measuring import MEBIBYTE, Cost, measure
from merge_gym import LayerBank, operators
from merge_gym.models import Checkpoint, Layout, Parameters, adapter_for
from merge_gym.suites import Split, Suite, Task
from tests.operators.oracle.cases import CASES, Case
from tests.operators.oracle.page import replace

from transformers import ViTConfig  # isort: skip  # after merge_gym.models

EXPERTS = ("one", "two")
IMAGES = 8
SLOW = 60
"""Seconds beyond which once is enough."""


def random_suite() -> Suite:
    """Two random experts of ViT-B/16's shape, with a task of a few random images each."""
    config = ViTConfig(num_labels=2)
    adapter = adapter_for(config)
    with torch.device("meta"):
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in adapter.model_class()(config).state_dict().items()
        }
    layout = Layout.of({adapter.place(name): shape for name, shape in shapes.items()})
    random = torch.Generator().manual_seed(0)
    pretrained = 0.02 * torch.randn(layout.size, generator=random)
    head = {
        name: 0.02 * torch.randn(shape, generator=random)
        for name, shape in shapes.items()
        if adapter.place(name).part == "head"
    }

    def checkpoint(flat: Tensor) -> Checkpoint:
        return Checkpoint("", config, Parameters(layout, flat), head)

    def moved() -> Tensor:
        return pretrained + 0.002 * torch.randn(layout.size, generator=random)

    def task(expert: str) -> Task:
        images = torch.randn(IMAGES, 3, config.image_size, config.image_size, generator=random)
        split = Split({"pixel_values": images}, torch.zeros(IMAGES, dtype=torch.int64))
        return Task(expert, expert, "accuracy", {"search": split})

    return Suite(
        name="random ViT-B/16",
        description="",
        licence="",
        pretrained=checkpoint(pretrained),
        experts={name: checkpoint(moved()) for name in EXPERTS},
        tasks={name: task(name) for name in EXPERTS},
        operators=(),
        shared="average",
    )


def equal_case(name: str) -> Case | None:
    """The first case of these experts' kind, with the same settings on both sides."""
    for case in CASES:
        values = (*case.settings.values(), *case.parameters.values())
        if case.operator == name and not any(isinstance(value, tuple) for value in values):
            return case
    return None


def ours(suite: Suite, name: str, case: Case | None) -> Callable[[], object]:
    """Build one candidate of a fresh bank, its statistics included."""
    bank = LayerBank(suite, [{"name": name, **(case.settings if case else {})}])
    return lambda: bank.parameters(bank.candidates.sources[-1])


def theirs(suite: Suite, case: Case) -> Callable[[], object]:
    """The same merge, tensor by tensor as mergekit works; matrices, which its DELLA needs."""
    from mergekit.merge_methods.api import merge_tensors

    def merge() -> Tensor:
        pretrained = suite.pretrained.parameters
        models = [expert.parameters.flat for expert in suite.experts.values()]
        models = [pretrained.flat, *models] if case.base else models
        base = 0 if case.base or case.method == "slerp" else None
        merged = torch.empty_like(pretrained.flat)
        for span, shape in pretrained.stretches("tensor"):
            shape = (shape[0], -1) if len(shape) > 2 else shape
            merged[span] = merge_tensors(
                [flat[span].view(shape) for flat in models],
                case.method,
                parameters=case.parameters,
                base_index=base,
            ).view(-1)
        return merged

    return merge


def repeated(prepare: Callable[[], Callable[[], object]], repeats: int) -> Cost:
    """The medians over several runs, or the one run of what is slow."""
    costs: list[Cost] = []
    while len(costs) < repeats and not (costs and costs[0].seconds > SLOW):
        gc.collect()
        costs.append(measure(prepare()))
    memory = [cost.mebibytes for cost in costs if cost.mebibytes is not None]
    return Cost(median(cost.seconds for cost in costs), median(memory) if memory else None)


def lines(names: list[str], repeats: int) -> Iterator[str]:
    """The table, row by row as it is measured."""
    suite = random_suite()
    size = 4 * suite.pretrained.parameters.layout.size / MEBIBYTE
    have_mergekit = importlib.util.find_spec("mergekit") is not None
    yield "| operator | CPU seconds | peak memory | mergekit: CPU seconds | peak memory |"
    yield "|---|---|---|---|---|"
    for name in names:
        case = equal_case(name)
        cells = _cells(repeated(partial(ours, suite, name, case), repeats), size)
        if case and have_mergekit:
            cells += _cells(repeated(partial(theirs, suite, case), repeats), size)
        else:
            cells += ["–", "–"]
        yield f"| `{name}` | {' | '.join(cells)} |"


def _cells(cost: Cost, size: float) -> list[str]:
    memory = "–" if cost.mebibytes is None else f"{cost.mebibytes / size:.1f} ×"
    return [f"{cost.seconds:.1f}", memory]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    table = []
    for line in lines(arguments.operators or list(operators.available()), arguments.repeats):
        print(line, flush=True)
        table.append(line)
    if arguments.write:
        replace("speed", "\n".join(table))


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("operators", nargs="*", help="all if none is named")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--write", action="store_true", help="update the table in the documentation"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
