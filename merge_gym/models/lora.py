"""peft adapters: low-rank updates that are merged into full weights when they are read.

Source: Hu et al. 2022, "LoRA", arXiv:2106.09685; the rank-stabilised factor from Kalajdzievski
2023, arXiv:2312.03732. File names and tensor names are those of the `peft` package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from merge_gym.models.files import local_directory, read_json

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
UNSUPPORTED = ("use_dora", "rank_pattern", "alpha_pattern")


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds a peft adapter instead of a whole model."""
    return (directory / SETTINGS).is_file()


def base_directory(directory: Path) -> Path:
    """Where the model lies that the adapter was trained on."""
    named = read_json(directory / SETTINGS).get("base_model_name_or_path")
    if not named:
        raise ValueError(f"{directory / SETTINGS} names no base model (base_model_name_or_path)")
    beside = directory / named
    return beside if beside.is_dir() else local_directory(named)


def check_adapter(directory: Path) -> None:
    """ValueError for anything but plain LoRA; FileNotFoundError without its weights."""
    settings = read_json(directory / SETTINGS)
    kind = settings.get("peft_type")
    if kind != "LORA" or (used := [name for name in UNSUPPORTED if settings.get(name)]):
        raise ValueError(
            f"{directory} is a peft adapter of type {kind}"
            f"{' with ' + ', '.join(used) if kind == 'LORA' else ''}; only plain LoRA is merged "
            f"here: merge it with peft (merge_and_unload) and save the whole model"
        )
    if not (directory / WEIGHTS).is_file():
        raise FileNotFoundError(f"{directory} holds no {WEIGHTS}")


def merged(directory: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that the adapter changes: W + s·B·A with s = α/r, or α/√r rank-stabilised.

    Args:
        directory: the adapter's.
        tensors: the base model's, by full name.

    Returns: {full name: tensor of the base's dtype}; whole tensors (a trained head) as they are.
    """
    settings = read_json(directory / SETTINGS)
    rank = settings["r"]
    scale = settings["lora_alpha"] / (rank**0.5 if settings.get("use_rslora") else rank)
    saved = {name.removeprefix(PREFIX): t for name, t in load_file(directory / WEIGHTS).items()}
    changed = {name: tensor for name, tensor in saved.items() if ".lora_" not in name}
    for name, down in saved.items():
        if module := re.fullmatch(r"(.+)\.lora_A\.weight", name):
            target = f"{module[1]}.weight"
            update = saved[f"{module[1]}.lora_B.weight"].float() @ down.float()
            update = update.T if settings.get("fan_in_fan_out") else update
            changed[target] = (
                tensors[target].float() + scale * update if target in tensors else down
            )
    unknown = sorted(changed.keys() - tensors.keys())
    unread = [name for name in saved if re.search(r"\.lora_(?![AB]\.weight$)", name)]
    if unknown or unread:
        raise ValueError(
            f"{directory} changes {', '.join((unknown + unread)[:5])}, which the model lacks or "
            f"which is no plain LoRA: merge it with peft (merge_and_unload), save the whole model"
        )
    return {name: tensor.to(tensors[name].dtype) for name, tensor in changed.items()}
