"""Build a suite: take or train the pretrained model, fine-tune the experts, write everything.

    python -m experiments.build_suite suite=fashion-halves output=my-suite
    python -m experiments.build_suite output=my-suite seeds=[7] data.shuffle=1
    python -m experiments.build_suite suite=text-domains output=my-suite pretrained.directory=…
    python -m experiments.build_suite suite=smollm-domains output=my-suite pretrained.directory=…
    python -m experiments.build_suite suite=cub200-halves pretrained=vit-base-patch16 device=cuda
    python -m experiments.build_suite suite=t5-domains output=my-suite data.tasks.news.directory=…
    python -m experiments.build_suite suite=t5-qa output=my-suite
    python -m experiments.build_suite suite=dinov2-domains output=my-suite pretrained.file=…

The same settings and versions give the same files on the same kind of machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from experiments.builders import (
    dinov2_suite,
    image_suite,
    language_suite,
    small_vit_suite,
    t5_suite,
    text_suite,
)
from experiments.builders.files import Result, new_directory, size_of

Builder = Callable[[DictConfig, Path, Progress], list[Result]]

BUILDERS: dict[str, Builder] = {
    "small-vit": small_vit_suite.build,
    "texts": text_suite.build,
    "language": language_suite.build,
    "images": image_suite.build,
    "t5": t5_suite.build,
    "dinov2": dinov2_suite.build,
}


def results_table(results: Sequence[Result]) -> Table:
    """The experts' accuracies in per cent on their own tasks."""
    table = Table("set", "expert", "search", "test", "seconds", title="experts on their own tasks")
    for row in results:
        table.add_row(
            str(row.seed),
            row.expert,
            f"{100 * row.search:.1f}",
            f"{100 * row.test:.1f}",
            f"{row.seconds:.0f}",
        )
    return table


@hydra.main(config_path="../conf/build_suite", config_name="config", version_base="1.3")
def main(config: DictConfig) -> None:
    """Build the suite that `config` describes."""
    torch.set_num_threads(config.threads)
    console, output = Console(), Path(config.output)
    bars = Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console)
    start = time.perf_counter()
    try:
        with new_directory(output) as directory, bars:
            results = BUILDERS[config.kind](config, directory, bars)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    console.print(results_table(results))
    seconds = time.perf_counter() - start
    console.print(f"{output}: {size_of(output) / 1e6:.1f} MB in {seconds:.0f} s")


if __name__ == "__main__":
    main()
