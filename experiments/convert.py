"""A pickled checkpoint as safetensors, the only kind of weights that is read here.

    python -m experiments.convert path/to/checkpoint path/to/converted
    python -m experiments.convert path/to/checkpoint path/to/converted --model-type bert

Reads `pytorch_model.bin` or its shards with torch's unpickler for tensors alone: a file that wants
anything else is refused, and no code of it runs. Names, values and dtypes stay, but for one thing:
where a checkpoint holds an architecture's trunk alone, its names get the trunk's prefix, as in
checkpoints with a head. Configuration, tokenizer and image processor are copied.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from experiments.builders.files import new_directory
from merge_gym.models import adapter_for
from merge_gym.models.files import INDEX, PICKLES, copy_processor, read_json

PICKLED_INDEX = "pytorch_model.bin.index.json"


def convert(source: Path, target: Path, model_type: str | None = None) -> None:
    """Write the checkpoint in `source` to the new directory `target`, as safetensors.

    Args:
        source: a Hugging Face directory whose weights are pickled.
        target: is written under a temporary name and renamed when complete.
        model_type: the architecture, where config.json does not name it.

    Raises:
        FileNotFoundError: `source` lacks its configuration, or weights.
        FileExistsError: `target` is there already.
        ValueError: a file that holds more than tensors or is damaged, an unknown architecture.
    """
    config = _config(source, model_type)
    files = sorted(source.glob(PICKLES))
    if not files:
        raise FileNotFoundError(f"{source} holds no {PICKLES}, so there is nothing to convert")
    index = read_json(source / PICKLED_INDEX) if len(files) > 1 else {"weight_map": {}}
    prefix = _missing_prefix(index["weight_map"] or read_pickle(files[0]), config)
    with new_directory(target) as directory:
        for file in files:
            tensors = {prefix + name: tensor for name, tensor in read_pickle(file).items()}
            save_file(tensors, directory / _safe_name(file.name), metadata={"format": "pt"})
        if len(files) > 1:
            places = index["weight_map"].items()
            index["weight_map"] = {prefix + name: _safe_name(file) for name, file in places}
            (directory / INDEX).write_text(json.dumps(index, indent=2))
        (directory / "config.json").write_text(json.dumps(config, indent=2))
        copy_processor(source, directory)
        for file in directory.iterdir():
            file.chmod(0o644)  # weights come out readable by their owner alone


def read_pickle(file: Path) -> dict[str, Tensor]:
    """The tensors in a pickled state dict, each with memory of its own.

    Raises ValueError where the file is damaged, or holds anything but tensors by name.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{file} is damaged, or holds more than tensors and is refused: {reason}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError(f"{file} holds no state dict, that is tensors by name: save the model's")
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def _config(source: Path, model_type: str | None) -> dict[str, Any]:
    """The configuration with its architecture, and without the names of two classes that old
    versions left there whatever `num_labels` said."""
    config = read_json(source / "config.json")
    if "architecture" in config:  # timm's
        return config
    config = {"model_type": model_type} | config
    if config["model_type"] is None:
        raise ValueError(f"{source}/config.json names no model_type: give it, as --model-type bert")
    if config["model_type"] not in CONFIG_MAPPING_NAMES:
        raise ValueError(f"transformers knows no model type {config['model_type']!r}")
    if config.get("num_labels") not in (None, len(config.get("id2label", ()))):
        stale = ("id2label", "label2id")
        return {key: value for key, value in config.items() if key not in stale}
    return config


def _missing_prefix(names: Iterable[str], config: dict[str, Any]) -> str:
    """What the names of a trunk's tensors begin with in a model with a head, if they lack it."""
    if "architecture" in config:
        return ""
    settings = {key: value for key, value in config.items() if key != "model_type"}
    full: PretrainedConfig = AutoConfig.for_model(config["model_type"], **settings)
    with torch.device("meta"):
        model = adapter_for(full).model_class()(full)
    prefix = f"{model.base_model_prefix}."
    expected = any(name.startswith(prefix) for name in model.state_dict())
    return prefix if expected and not any(name.startswith(prefix) for name in names) else ""


def _safe_name(file: str) -> str:
    return file.replace("pytorch_model", "model").replace(".bin", ".safetensors")


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert one checkpoint; `arguments` are those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path, help="the directory of the pickled checkpoint")
    parser.add_argument("target", type=Path, help="the new directory")
    parser.add_argument("--model-type", help="its architecture, if its config.json names none")
    given = parser.parse_args(arguments)
    try:
        convert(given.source, given.target, given.model_type)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    print(given.target)


if __name__ == "__main__":
    main()
