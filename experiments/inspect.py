"""What a suite holds, before anything heavy runs.

    python -m experiments.inspect suite=path/to/suite.yaml

Prints segments, candidates, parameter counts, the norm of every expert's task vector and their
cosines layer by layer, the splits, and the memory that a run will need; draws the norms and cosines
into task_vectors.png. Whatever does not fit together is one clear error.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cosine_similarity

import merge_gym
from experiments.pictures import save
from merge_gym.bank import LayerBank
from merge_gym.models.parameters import SHARED, Group
from merge_gym.suites import Suite

MEBIBYTE = 2**20


def task_vectors(suite: Suite, group: Group) -> dict[str, Tensor]:
    """{expert: its values minus the pretrained ones, flat} in a layer or the shared parameters."""
    pretrained = suite.pretrained.parameters
    span = pretrained.layout.span(group)
    return {
        name: expert.parameters.flat[span] - pretrained.flat[span]
        for name, expert in suite.experts.items()
    }


def task_vector_table(suite: Suite) -> Table:
    """A row for each layer: parameters, ‖τ‖ of each expert, cosine of each pair of experts."""
    pairs = list(combinations(suite.experts, 2))
    table = Table(title="task vectors τ = expert − pretrained", title_justify="left")
    table.add_column("layer")
    columns = ["parameters", *(f"‖τ‖ {name}" for name in suite.experts)]
    for column in (*columns, *(f"cos({a}, {b})" for a, b in pairs)):
        table.add_column(column, justify="right")
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
    """Norms and cosines of the task vectors over the layers."""
    groups = list(suite.pretrained.parameters.layout.groups)
    names = [group_name(group) for group in groups]
    vectors = [task_vectors(suite, group) for group in groups]
    figure = Figure(figsize=(4 + 0.6 * len(groups), 6), dpi=110)
    norms, cosines = figure.subplots(2, sharex=True)
    for expert in suite.experts:
        norms.plot(names, [float(layer[expert].norm()) for layer in vectors], "o-", label=expert)
    for a, b in combinations(suite.experts, 2):
        values = [float(cosine_similarity(layer[a], layer[b], dim=0)) for layer in vectors]
        cosines.plot(names, values, "o-", label=f"{a} · {b}")
    norms.set_ylabel("‖τ‖")
    norms.set_ylim(bottom=0)
    cosines.set_ylabel("cosine of τ")
    cosines.axhline(0, color="0.7", lw=1)
    for axes in (norms, cosines):
        axes.grid(color="0.92")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    cosines.tick_params(axis="x", rotation=45)
    figure.suptitle(f"task vectors of {suite.name}", x=0.02, ha="left", fontsize="medium")
    figure.set_layout_engine("tight")
    return figure


def group_name(group: Group) -> str:
    """`layers 3`, or `shared` for the parameters outside the layers."""
    return "shared" if group == SHARED else f"{group[0]} {group[1]}"


def overview(bank: LayerBank) -> Table:
    """The suite in a few lines: models, candidates, tasks and splits, memory."""
    suite = bank.suite
    layout = suite.pretrained.parameters.layout
    table = Table(title=f"{suite.name} ({suite.digest})", title_justify="left", show_header=False)
    table.add_row("model", f"{suite.pretrained.config.model_type}, {layout.size:,} parameters")
    segments = ", ".join(f"{size} {name}" for name, size in bank.segments.items())
    table.add_row("segments", segments)
    table.add_row("candidates", "\n".join(bank.candidates))
    layers = sum(bank.segments.values())
    recipes = (len(bank.candidates) + 1) ** layers
    table.add_row("recipes", f"{recipes:,} (each layer once or skipped; going back adds more)")
    for name, task in suite.tasks.items():
        sizes = ", ".join(f"{len(split):,} {which}" for which, split in task.splits.items())
        table.add_row(f"task {name}", f"{task.metric}, head of {task.expert}; {sizes} examples")
    models = 1 + len(bank.candidates)
    bytes_each = layout.size * suite.pretrained.parameters.flat.element_size()
    table.add_row(
        "memory", f"bank {models * bytes_each / MEBIBYTE:,.0f} MiB, data {_data(suite):,.0f} MiB"
    )
    return table


def _data(suite: Suite) -> float:
    tensors = [
        tensor
        for task in suite.tasks.values()
        for split in task.splits.values()
        for tensor in split.inputs.values()
    ]
    return sum(tensor.nbytes for tensor in tensors) / MEBIBYTE


@hydra.main(version_base=None, config_path="../conf", config_name="inspect")
def main(config: DictConfig) -> None:
    """Print and draw what a suite holds."""
    torch.set_num_threads(1)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    try:
        bank = LayerBank(merge_gym.load_suite(config.suite), plain["operators"])
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"error: {error}") from None
    console = Console()
    console.print(overview(bank))
    console.print(task_vector_table(bank.suite))
    picture = Path(HydraConfig.get().runtime.output_dir) / "task_vectors.png"
    save(task_vector_figure(bank.suite), picture)
    console.print(str(picture), soft_wrap=True)


if __name__ == "__main__":
    main()
