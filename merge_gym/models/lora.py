"""peft adapters: low-rank updates that are merged into full weights when they are read.

Source: Hu et al. 2022, "LoRA", arXiv:2106.09685; the rank-stabilised factor from Kalajdzievski
2023, arXiv:2312.03732. File names and tensor names are those of the `peft` package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.models.auto import modeling_auto

from merge_gym.models.files import local_directory, read_json

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Those that leave the base model as it is; PiSSA, OLoRA, LoftQ and others change it."""
PLAIN = (
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
)
"""Settings under which an update is s·B·A; any other that is set makes it something else."""
CLASSES = {
    "SEQ_CLS": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "CAUSAL_LM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "SEQ_2_SEQ_LM": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds a peft adapter instead of a whole model."""
    return (directory / SETTINGS).is_file()


def base_directory(directory: Path, base: str | None = None) -> Path:
    """Where the model lies that the adapter was trained on.

    Args:
        directory: the adapter's.
        base: what it must have been trained on; None for the model that it names. A name that
            leads to no directory here, as on the machine where it was trained, is not held
            against it.
    """
    named = read_json(directory / SETTINGS).get("base_model_name_or_path") or ""
    places = (directory / named, Path(named)) if named else ()
    own = next((place for place in places if place.is_dir()), None)
    if base is None:
        if not named:
            raise ValueError(f"{directory / SETTINGS} names no base_model_name_or_path")
        return own or local_directory(named)
    given = local_directory(base)
    if own is not None and not own.samefile(given):
        raise ValueError(
            f"{directory} is a peft adapter of {own}, but the pretrained model is {given}: name "
            f"the model that the adapter was trained on"
        )
    return given


def architecture(directory: Path, model_type: str) -> str | None:
    """The class of transformers that the adapter was trained in, as far as its file says so."""
    settings = read_json(directory / SETTINGS)
    named = (settings.get("auto_mapping") or {}).get("base_model_class")
    return named or CLASSES.get(settings.get("task_type") or "", {}).get(model_type)


def check_adapter(directory: Path) -> None:
    """ValueError for anything but plain LoRA; FileNotFoundError without its weights."""
    settings = read_json(directory / SETTINGS)
    if settings.get("peft_type") != "LORA":
        raise ValueError(_refusal(directory, f"is of type {settings.get('peft_type')}"))
    if used := [name for name, value in settings.items() if value and name not in PLAIN]:
        raise ValueError(_refusal(directory, f"is no plain LoRA but has {', '.join(used)}"))
    start = settings.get("init_lora_weights")
    if start not in INITIALISATIONS:
        raise ValueError(_refusal(directory, f"began as {start!r}, which changes the base model"))
    if not (directory / WEIGHTS).is_file():
        raise FileNotFoundError(f"{directory} holds no {WEIGHTS}")


def merged(
    directory: Path, tensors: Mapping[str, Tensor], tied: Mapping[str, str]
) -> dict[str, Tensor]:
    """The tensors that the adapter changes: W + s·B·A with s = α/r, or α/√r rank-stabilised.

    Args:
        directory: the adapter's.
        tensors: the base model's, by full name.
        tied: {name of a tensor that is tied to another: that one's name}.

    Returns: {full name: tensor of the base's dtype}; whole tensors (a trained head) as they are.
    """
    settings = read_json(directory / SETTINGS)
    rank = settings["r"]
    scale = settings["lora_alpha"] / (rank**0.5 if settings.get("use_rslora") else rank)
    saved = {
        name.removeprefix(PREFIX).replace(".base_layer.", "."): tensor
        for name, tensor in load_file(directory / WEIGHTS).items()
    }
    whole = {name: tensor for name, tensor in saved.items() if ".lora_" not in name}
    changed = _without_twins(directory, whole, tied)
    for name, down in saved.items():
        if module := re.fullmatch(r"(.+)\.lora_A\.weight", name):
            target = f"{module[1]}.weight"
            update = scale * _product(saved[f"{module[1]}.lora_B.weight"], down, settings)
            changed[target] = tensors[target].float() + update if target in tensors else down
    unknown = sorted(changed.keys() - tensors.keys())
    unread = [name for name in saved if re.search(r"\.lora_(?![AB]\.weight$)", name)]
    if unknown or unread:
        names = ", ".join((unknown + unread)[:5])
        raise ValueError(
            _refusal(directory, f"changes {names}, which the model lacks or which is no plain LoRA")
        )
    return {name: tensor.to(tensors[name].dtype) for name, tensor in changed.items()}


def _product(up: Tensor, down: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """B·A; of a convolution A holds the kernel and B is 1 wide."""
    update = up.float().flatten(1) @ down.float().flatten(1)
    if down.dim() > 2:
        return update.reshape(len(up), *down.shape[1:])
    return update.T if settings.get("fan_in_fan_out") else update


def _without_twins(
    directory: Path, whole: Mapping[str, Tensor], tied: Mapping[str, str]
) -> dict[str, Tensor]:
    """The tensors that were saved whole; of two that the model ties, the first.

    peft trains a copy of an embedding matrix apart from the output matrix that was tied to it; the
    model that comes of it is tied only where both were saved and are equal.
    """
    for twin, first in tied.items():
        found = [whole[name] for name in (first, twin) if name in whole]
        if found and not (len(found) == 2 and torch.equal(*found)):
            raise ValueError(
                _refusal(
                    directory, f"trained {first} apart from {twin}, which the model ties to it"
                )
            )
    return {name: tensor for name, tensor in whole.items() if name not in tied}


def _refusal(directory: Path, why: str) -> str:
    return (
        f"the peft adapter {directory} {why}: merge it with peft (merge_and_unload) and save the "
        f"whole model"
    )
