"""What a suite holds, before anything heavy runs.

    python -m experiments.inspect_suite suite=path/to/suite.yaml

Prints segments, candidates, parameter counts, the norm of every expert's task vector and their
cosines layer by layer, the splits with their examples per class, and the memory that a run will
need; draws the norms and cosines into task_vectors.png. Whatever does not fit together is said at
once, and then nothing is written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from inspect import signature
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cosine_similarity

import merge_gym
from experiments.pictures import save
from experiments.refusing import refuse
from merge_gym.evaluation.modules import choose_placement
from merge_gym.merging.bank import LayerBank
from merge_gym.models.parameters import SHARED, Group
from merge_gym.models.storage import on_disk
from merge_gym.suites import Suite, Task

MEBIBYTE = 2**20
FLOAT32 = torch.float32.itemsize

LIBRARIES = 576 * MEBIBYTE
"""What a process takes that has imported and used everything: measured, on Linux."""

MERGING = 5
"""Vectors of all parameters in float32 that an operator over the whole model holds while it merges:
measured, 4.3 with TIES and DARE-TIES, up to 6 with DELLA, 10 with PCB."""


def task_vectors(suite: Suite, group: Group) -> dict[str, Tensor]:
    """{expert: its values minus the pretrained ones, flat, float32} in a layer or the shared
    parameters."""
    pretrained = suite.pretrained.parameters
    span = pretrained.layout.span(group)
    return {
        name: expert.parameters.flat[span].float() - pretrained.flat[span].float()
        for name, expert in suite.experts.items()
    }


def task_vector_table(suite: Suite) -> Table:
    """A row for each layer: parameters, ‖τ‖ of each expert, cosine of each pair of experts."""
    pairs = list(combinations(suite.experts, 2))
    table = Table(title="task vectors τ = expert − pretrained", title_justify="left")
    table.add_column("layer", no_wrap=True)
    columns = ["parameters", *(f"‖τ‖\n{name}" for name in suite.experts)]
    for column in (*columns, *(f"cosine\n{a}\n{b}" for a, b in pairs)):
        table.add_column(column, justify="right", no_wrap=True)
    for group in suite.pretrained.parameters.layout.groups:
        vectors = task_vectors(suite, group)
        table.add_row(
            group_name(group),
            f"{next(iter(vectors.values())).numel():,}",
            *(f"{vector.norm():.2f}" for vector in vectors.values()),
            *(f"{cosine_similarity(vectors[a], vectors[b], dim=0):+.3f}" for a, b in pairs),
        )
    return table


def task_vector_figure(suite: Suite) -> Figure:
    """Norms and cosines of the task vectors over the layers, a line a segment."""
    groups = list(suite.pretrained.parameters.layout.groups)
    vectors = [task_vectors(suite, group) for group in groups]
    figure = Figure(figsize=(4 + 0.5 * len(groups), 6), dpi=110, layout="constrained")
    norms, cosines = figure.subplots(2, sharex=True)
    for expert in suite.experts:
        _draw(norms, groups, [float(layer[expert].norm()) for layer in vectors], expert)
    cosines.axhline(0, color="0.7", lw=1)
    cosines.set_prop_cycle(color=["#444444", "#999999", "#7f5539", "#386641", "#9d4edd", "#bc4749"])
    for a, b in combinations(suite.experts, 2):
        values = [float(cosine_similarity(layer[a], layer[b], dim=0)) for layer in vectors]
        _draw(cosines, groups, values, f"{a} · {b}")
    norms.set_ylabel("‖τ‖")
    norms.set_ylim(bottom=0)
    cosines.set_ylabel("cosine of τ")
    for axes in (norms, cosines):
        axes.grid(color="0.92")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    cosines.set_xticks(range(len(groups)), [group_name(group) for group in groups], rotation=45)
    figure.suptitle(f"task vectors of {suite.name}", x=0.02, ha="left", fontsize="medium")
    return figure


def _draw(axes: Axes, groups: Sequence[Group], values: Sequence[float], label: str) -> None:
    """One marker a group; only layers of one segment are joined."""
    breaks = [n for n in range(1, len(groups)) if groups[n][0] != groups[n - 1][0]]
    color = None
    for start, stop in pairwise([0, *breaks, len(groups)]):
        [line] = axes.plot(
            range(start, stop),
            values[start:stop],
            "o-",
            color=color,
            label=label if not start else None,
        )
        color = line.get_color()


def group_name(group: Group) -> str:
    """`layers 3`, or `shared` for the parameters outside the layers."""
    return "shared" if group == SHARED else f"{group[0]} {group[1]}"


def overview(bank: LayerBank) -> Table:
    """The suite in a few lines: models, candidates, tasks and splits, memory."""
    suite = bank.suite
    layout = suite.pretrained.parameters.layout
    table = Table(title=f"{suite.name} ({suite.digest})", title_justify="left", show_header=False)
    table.add_row("model", f"{suite.pretrained.config.model_type}, {layout.size:,} parameters")
    segments = ", ".join(f"{size} {name}" for name, size in bank.candidates.segments.items())
    table.add_row("segments", segments)
    table.add_row("candidates", "\n".join(bank.candidates.names))
    layers = sum(bank.candidates.segments.values())
    recipes = (len(bank.candidates) + 1) ** layers
    table.add_row("recipes", f"{recipes:,} (each layer once or skipped; going back adds more)")
    for name, task in suite.tasks.items():
        lines = [f"{task.metric}, expert {task.expert}"]
        lines += [f"{which}: {split_size(task, which)}" for which in task.splits]
        table.add_row(f"task {name}", "\n".join(lines))
    needs = memory(bank)
    lines = [f"{size / MEBIBYTE:8,.0f} MiB  {what}" for what, size in needs.items()]
    lines.append(f"{sum(needs.values()) / MEBIBYTE:8,.0f} MiB  in all, about, at the peak of a run")
    table.add_row("memory", "\n".join(lines))
    if not suite.tasks:
        table.add_row("tasks", "none: recipes can be exported, but not scored")
    return table


def split_size(task: Task, which: str) -> str:
    """How many examples a split has, in all and of each class or right choice, and their shape."""
    split = task.splits[which]
    counts = torch.bincount(split.labels).tolist()
    least, most = min(counts), max(counts)
    each = f", {least}{f' to {most}' if most > least else ''} per class" if len(counts) > 1 else ""
    shapes = {"×".join(map(str, value.shape[1:])) for value in split.inputs.values()}
    return f"{len(split):,} examples{each}; inputs {', '.join(sorted(shapes))}"


def memory(bank: LayerBank) -> dict[str, int]:
    """{what: bytes} that a run with this bank holds on the CPU at its peak, about.

    Weights in mapped files are left out: the system takes their memory back when it is short.
    """
    suite, candidates = bank.suite, len(bank.candidates)
    stored = 0 if suite.allocate is on_disk else suite.pretrained.parameters.flat.nbytes
    vector = suite.pretrained.parameters.layout.size * FLOAT32
    needs = {"Python, torch and the other libraries": LIBRARIES}
    needs[f"bank: pretrained and {candidates} candidates"] = (1 + candidates) * stored
    needs["one more merge while it is made"] = stored + MERGING * vector
    if not suite.tasks:
        return needs
    cache = signature(merge_gym.Evaluator).parameters["cache_bytes"].default
    return needs | {
        "candidates as they are run": _run(bank),
        "remembered activations and scores": cache,
        "data": _data(suite),
    }


def _run(bank: LayerBank) -> int:
    """Bytes of the candidates' float32 copies, where they are stored otherwise, and of their stems:
    for each task a model with one layer that is not filled."""
    parameters = bank.suite.pretrained.parameters
    spans = {group: parameters.layout.span(group) for group in parameters.layout.groups}
    sizes = {group: span.stop - span.start for group, span in spans.items()}
    shared = sizes.pop(SHARED, 0)
    stems = len(bank.suite.tasks) * max(sizes.values())
    copies = 0
    if parameters.flat.dtype != torch.float32:
        placement = choose_placement(bank, torch.device("cpu"), torch.float32)
        copies = shared + (sum(sizes.values()) if placement == "device" else 0)
    return len(bank.candidates) * (copies + stems) * FLOAT32


def _data(suite: Suite) -> int:
    return sum(
        tensor.nbytes
        for task in suite.tasks.values()
        for split in task.splits.values()
        for tensor in split.inputs.values()
    )


@hydra.main(version_base=None, config_path="../conf", config_name="inspect_suite")
def main(config: DictConfig) -> None:
    """Print and draw what a suite holds."""
    torch.set_num_threads(1)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    directory = Path(HydraConfig.get().runtime.output_dir)
    try:
        bank = LayerBank(merge_gym.load_suite(config.suite), plain["operators"]["bank"])
    except (ValueError, OSError) as error:
        refuse(error, directory)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(overview(bank))
    console.print(task_vector_table(bank.suite))
    picture = directory / "task_vectors.png"
    save(task_vector_figure(bank.suite), picture)
    console.print(str(picture), soft_wrap=True)


if __name__ == "__main__":
    main()
