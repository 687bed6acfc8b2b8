"""What scoring costs: recorded searches through the reference evaluator and through the engine.

    python -m experiments.speed

Plays PPO and a random policy on a suite, scores what they built again with both evaluators, a
block with one and then with the other, checks that all rewards are equal, and prints ratios of CPU
and wall time. Then recipes that share nothing, on the suite and on a ViT-S/32-sized model with
random weights, and the memory over random episodes. Writes the figures to speed.json as well.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from transformers import ViTConfig

import merge_gym
from experiments.replaying import (
    Clock,
    Memory,
    Mixes,
    Play,
    Recording,
    Replay,
    exactness,
    gemm_peak,
    memory,
    mixes,
    random_suite,
    record,
    replay,
    subset_and_whole,
)
from merge_gym.merging.bank import LayerBank

MEBIBYTE = 2**20
VIT_S_32 = {
    "image_size": 224,
    "patch_size": 32,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "num_labels": 10,
}


def searches(config: DictConfig, directory: Path) -> dict[str, tuple[Recording, Replay]]:
    """Each policy at each scale, recorded and replayed."""
    suite = merge_gym.load_suite(config.suite)
    bank = LayerBank(suite)
    done = {}
    for policy in config.policies:
        for scale in config.scales:
            name, subsets = f"{policy}, scale {scale:g}", round(1 / scale)
            recording = record(
                suite, policy, config.episodes, subsets, config.seed, directory / name
            )
            done[name] = recording, replay(bank, recording.plays, subsets)
            _say(name, done[name][1])
    return done


def whole_splits(
    config: DictConfig, done: dict[str, tuple[Recording, Replay]]
) -> dict[str, tuple[Clock, Clock]]:
    """What the whole search split costs in place of subsets, for the recipes of the same search."""
    bank = LayerBank(merge_gym.load_suite(config.suite))
    recordings = {name: recording for name, (recording, _) in done.items()}
    return {
        f"{policy}, scale {scale:g}": subset_and_whole(
            bank, recordings[f"{policy}, scale {scale:g}"].plays, round(1 / scale)
        )
        for policy in config.policies
        for scale in config.scales
        if scale < 1
    }


def cold_scores(config: DictConfig) -> dict[str, Replay]:
    """Recipes that share nothing, on the suite and on the large model."""
    large = random_suite(ViTConfig(**VIT_S_32), config.large_examples)
    banks = {
        config.suite: LayerBank(merge_gym.load_suite(config.suite)),
        f"ViT-S/32, {config.large_examples} examples a task": LayerBank(large),
    }
    generator = np.random.default_rng(0)
    done = {}
    for name, bank in banks.items():
        for scale in config.cold_scales:
            case, subsets = f"{name}, scale {scale:g}", round(1 / scale)
            plays = cold_plays(bank, config.cold_recipes, subsets, generator)
            done[case] = replay(bank, plays, subsets, block=1, cold=True)
            _say(case, done[case])
    return done


def cold_plays(
    bank: LayerBank, count: int, subsets: int, generator: np.random.Generator
) -> list[Play]:
    """Random recipes of full depth on random subsets."""
    layers = sum(bank.candidates.segments.values())
    choices = generator.integers(len(bank.candidates.sources), size=(count, layers))
    places = generator.integers(subsets, size=count)
    return [
        (bank.candidates.recipe(list(enumerate(row))), place)
        for row, place in zip(choices.tolist(), places.tolist(), strict=True)
    ]


def search_table(done: dict[str, tuple[Recording, Replay]], peak: float) -> Table:
    """A row for each search."""
    table = _table(
        "searches",
        "search",
        "episodes",
        "reference s",
        "engine s",
        "CPU ratio",
        "wall ratio",
        "layers asked",
        "executed",
        "last only",
        "GEMM peak",
        "whole search s",
        "scoring s",
    )
    for name, (recording, run) in done.items():
        table.add_row(
            name,
            f"{run.plays}",
            *_costs(run, peak),
            f"{recording.whole.cpu:.1f}",
            f"{recording.scoring.cpu:.1f}",
        )
    return table


def cold_table(done: dict[str, Replay], peak: float) -> Table:
    """A row for each model and scale."""
    table = _table(
        "cold recipes",
        "case",
        "recipes",
        "reference s",
        "engine s",
        "CPU ratio",
        "wall ratio",
        "layers asked",
        "executed",
        "last only",
        "GEMM peak",
    )
    for name, run in done.items():
        table.add_row(name, f"{run.plays}", *_costs(run, peak))
    return table


def whole_table(costs: dict[str, tuple[Clock, Clock]]) -> Table:
    """A row for each search on subsets."""
    table = _table("the same recipes on the whole split", "search", "subsets s", "whole s", "ratio")
    for name, (parts, whole) in costs.items():
        table.add_row(name, f"{parts.cpu:.2f}", f"{whole.cpu:.2f}", f"{whole.cpu / parts.cpu:.2f}")
    return table


def memory_table(seen: Memory) -> Table:
    """A row for each sample of the resident memory."""
    table = _table("memory", "episodes", "resident MiB", "above suite and bank MiB")
    table.add_row("0", f"{seen.before / MEBIBYTE:.0f}", "0")
    for episodes, resident in seen.samples.items():
        above = (resident - seen.before) / MEBIBYTE
        table.add_row(f"{episodes}", f"{resident / MEBIBYTE:.0f}", f"{above:.0f}")
    return table


def mixes_table(seen: Mixes) -> Table:
    """A row for each sample of the resident memory while mixes are scored."""
    table = _table(
        f"a λ for each layer and expert: {seen.recipes} merged in {seen.merging.cpu:.2f} s of CPU",
        "recipes scored",
        "resident MiB",
        f"above the suite MiB (budgets {seen.memory.budget / MEBIBYTE:.0f})",
    )
    for recipes, resident in seen.memory.samples.items():
        above = (resident - seen.memory.before) / MEBIBYTE
        table.add_row(f"{recipes}", f"{resident / MEBIBYTE:.0f}", f"{above:.0f}")
    return table


def _say(name: str, run: Replay) -> None:
    executed = run.executed / run.asked
    print(
        f"{name}: {run.reference.cpu:.1f} s and {run.engine.cpu:.1f} s of CPU, "
        f"{run.ratio:.2f} times less; {executed:.1%} of the layers executed",
        flush=True,
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _costs(run: Replay, peak: float) -> list[str]:
    return [
        f"{run.reference.cpu:.2f}",
        f"{run.engine.cpu:.2f}",
        f"{run.ratio:.2f}",
        f"{run.reference.wall / run.engine.wall:.2f}",
        f"{run.asked:,}",
        f"{run.executed / run.asked:.1%}",
        f"{run.last / run.asked:.1%}",
        f"{run.flops / peak:.0%}",
    ]


def figures(
    done: dict[str, tuple[Recording, Replay]],
    whole: dict[str, tuple[Clock, Clock]],
    cold: dict[str, Replay],
    seen: Memory,
    peaks: dict[str, float],
) -> dict[str, Any]:
    """All that was measured, as plain values."""
    return {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "gemm_peak_flops": peaks,
        "searches": {
            name: _numbers(run)
            | {"search_cpu": recording.whole.cpu, "scoring_cpu": recording.scoring.cpu}
            for name, (recording, run) in done.items()
        },
        "whole_split": {
            name: {"subsets_cpu": parts.cpu, "whole_cpu": all_of_it.cpu}
            for name, (parts, all_of_it) in whole.items()
        },
        "cold": {name: _numbers(run) for name, run in cold.items()},
        "memory": vars(seen),
    }


def _numbers(run: Replay) -> dict[str, float]:
    return {
        "plays": run.plays,
        "reference_cpu": run.reference.cpu,
        "engine_cpu": run.engine.cpu,
        "reference_wall": run.reference.wall,
        "engine_wall": run.engine.wall,
        "asked": run.asked,
        "executed": run.executed,
        "last": run.last,
        "flops": run.flops,
    }


@hydra.main(version_base=None, config_path="../conf", config_name="speed")
def main(config: DictConfig) -> None:
    """Measure and print."""
    torch.set_num_threads(config.threads)
    directory = Path(HydraConfig.get().runtime.output_dir)
    peaks = gemm_peak()
    peak = max(peaks.values())
    bank = LayerBank(merge_gym.load_suite(config.suite))
    seen = memory(bank, config.memory_episodes, config.memory_cache * MEBIBYTE)
    budgets = config.memory_cache * MEBIBYTE, config.mixes_bank * MEBIBYTE
    mixed = mixes(bank.suite, config.mixes, 10 * config.mixes, *budgets)
    exact = exactness(bank, config.exact_recipes)
    done, cold = searches(config, directory), cold_scores(config)
    whole = whole_splits(config, done)
    console = Console(width=160)
    tables = search_table(done, peak), whole_table(whole), cold_table(cold, peak)
    console.print(*tables, memory_table(seen), mixes_table(mixed), sep="\n")
    print(
        f"GEMM peak {peaks['product'] / 1e9:.0f} GFLOP/s by the BLAS, "
        f"{peaks['convolution'] / 1e9:.0f} as a convolution (shares are of the greater); "
        f"cache of the memory run {config.memory_cache} MiB,"
    )
    print(f"bank {seen.bank / MEBIBYTE:.1f} MiB. All rewards of the searches were equal.")
    print(
        f"{exact.recipes} random recipes: {exact.unequal} metrics differ, logits by at most "
        f"{exact.deviation:.1e}; plain path equal to the bit: {exact.plain}"
    )
    numbers = figures(done, whole, cold, seen, peaks) | {
        "exactness": vars(exact),
        "mixes": {
            "recipes": mixed.recipes,
            "merging_cpu": mixed.merging.cpu,
            "memory": vars(mixed.memory),
        },
    }
    (directory / "speed.json").write_text(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
