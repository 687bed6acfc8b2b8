"""Checkpoint directories: found and checked by their small files and headers alone."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

INDEX = "model.safetensors.index.json"
PICKLES = "pytorch_model*.bin"
"""The pickled weights that transformers used to write."""

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
)
"""What turns raw examples into a model's inputs, in a checkpoint directory."""


def local_directory(location: str) -> Path:
    """The directory itself, or where the hub's checkpoint of that name was downloaded to.

    Raises FileNotFoundError where there is neither.
    """
    if Path(location).is_dir() or Path(location).is_absolute():
        return Path(location)
    try:
        return Path(
            snapshot_download(
                location, allow_patterns=["*.safetensors", INDEX, *PROCESSOR_FILES, "*config.json"]
            )
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"there is no directory {location!r}, and no checkpoint of that name on the hub can "
            f"be had ({str(error).splitlines()[0]})"
        ) from None


def check_config(directory: Path) -> None:
    """Check that a model of a known architecture is there, in plain weights, which needs no code of
    its own."""
    _check_no_trainer_folder(directory)
    config = read_json(directory / "config.json")
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise ValueError(
            f"{directory} holds quantised weights ({method or 'of an unnamed kind'}: "
            f"quantization_config in config.json), and only plain ones can be merged: take the "
            f"checkpoint that it was quantised from, or dequantise it with transformers and save it"
        )
    if not config.keys() & {"model_type", "architecture", "auto_map"}:
        raise ValueError(
            f"{directory}/config.json names no model_type, as with very old versions of "
            f"transformers. {_conversion(directory)} --model-type bert, or whatever it is"
        )
    known = config.get("model_type") in CONFIG_MAPPING_NAMES or "architecture" in config
    if not known and "auto_map" in config:
        raise ValueError(
            f"{directory} wants its own code to be run (auto_map in config.json), which is "
            f"refused: convert it to an architecture that transformers has"
        )
    if not known:
        raise ValueError(
            f"{directory} is of model type {config.get('model_type')!r}, which this version of "
            f"transformers does not know"
        )


def check_weights(directory: Path) -> str:
    """Check that the weights are there, whole and no pickle; returns their dtypes ("BF16")."""
    if (directory / INDEX).is_file():
        shards = sorted(set(read_json(directory / INDEX)["weight_map"].values()))
        absent = [shard for shard in shards if not (directory / shard).is_file()]
        if absent:
            raise FileNotFoundError(
                f"{directory} lacks {', '.join(absent)}, {len(absent)} of the {len(shards)} "
                f"files that its {INDEX} names: download or copy it again"
            )
        files = [directory / shard for shard in shards]
    else:
        files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(_no_weights(directory))
    return "/".join(sorted({dtype for file in files for dtype in _dtypes(file)}))


def weights_size(directory: Path) -> int:
    """Bytes of a checkpoint's weights on disk."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint directory."""
    if not file.is_file():
        raise FileNotFoundError(
            f"{file.parent} holds no {file.name}: expected a Hugging Face checkpoint directory"
        )
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None


def has_processor(directory: Path) -> bool:
    """Whether a tokenizer or image processor lies beside the weights; timm's is in its config."""
    if any((directory / name).is_file() for name in PROCESSOR_FILES):
        return True
    config = directory / "config.json"
    return config.is_file() and "pretrained_cfg" in read_json(config)


def copy_processor(source: Path, target: Path) -> None:
    """Copy tokenizer and image processor as they are."""
    for name in PROCESSOR_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, target / name)


def _check_no_trainer_folder(directory: Path) -> None:
    """FileNotFoundError that names the newest checkpoint in the output folder of a Trainer."""
    inside = {
        int(number): folder
        for folder in directory.glob("checkpoint-*")
        if (number := folder.name.removeprefix("checkpoint-")).isdecimal()
    }
    if inside and not (directory / "config.json").is_file():
        raise FileNotFoundError(
            f"{directory} holds no config.json but {len(inside)} checkpoints of a Trainer: name "
            f"one of them, such as the last, {inside[max(inside)]}"
        )


def _no_weights(directory: Path) -> str:
    pickles = sorted(file.name for file in directory.glob(PICKLES))
    if not pickles:
        return f"{directory} holds no .safetensors file"
    return (
        f"{directory} holds no .safetensors file; {', '.join(pickles)} is pickle, which can run "
        f"code and is not read. {_conversion(directory)}"
    )


def _conversion(directory: Path) -> str:
    places = shlex.join([str(directory), f"{directory}-safe"])
    return f"Convert it: python -m experiments.convert {places}"


def _dtypes(file: Path) -> set[str]:
    try:
        with safe_open(file, "pt") as handle:
            return {handle.get_slice(name).get_dtype() for name in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{file} is not a complete safetensors file ({error}); copy or save it again"
        ) from None
