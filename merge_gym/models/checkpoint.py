"""Reading checkpoints: safetensors only, checked before anything heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from merge_gym.models.adapter import ModelAdapter, Place, adapter_for
from merge_gym.models.parameters import SHARED, Group, Layout, Parameters


@dataclass(frozen=True)
class Checkpoint:
    """One model in memory.

    Attributes:
        location: the directory or hub name it came from.
        config: its Hugging Face configuration.
        parameters: its mergeable tensors (layers and shared), in float32.
        head: the tensors of its task head, by full name.
        dtype: the dtypes of its tensors on disk, such as "F16"; empty for a hub name.
    """

    location: str
    config: PretrainedConfig
    parameters: Parameters
    head: Mapping[str, Tensor]
    dtype: str = ""


def load_checkpoint(location: str) -> Checkpoint:
    """Open a Hugging Face directory or hub name.

    Raises:
        FileNotFoundError: the directory holds no config.json or no safetensors weights.
        ValueError: an unknown architecture, a truncated file, weights that do not fit the
            configuration, NaN or Inf values.
    """
    dtype = _check_files(Path(location)) if Path(location).is_absolute() else ""
    config = AutoConfig.from_pretrained(location, trust_remote_code=False)
    adapter = adapter_for(config)
    tensors = _read_tensors(location, adapter)
    _check_finite(location, tensors)
    places = {name: adapter.place(name) for name in tensors}
    layout = Layout.of({places[name]: tuple(tensor.shape) for name, tensor in tensors.items()})
    gathered = {
        (_group(places[name]), places[name].name): tensor for name, tensor in tensors.items()
    }
    head = {name: tensor for name, tensor in tensors.items() if places[name].part == "head"}
    return Checkpoint(location, config, Parameters.gather(layout, gathered), head, dtype)


def _group(place: Place) -> Group:
    return (place.segment, place.index) if place.part == "layer" else SHARED


def _check_files(directory: Path) -> str:
    """Check that the weights are there and whole; returns their dtypes."""
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(
            f"{directory} holds no config.json: expected a Hugging Face checkpoint directory"
        )
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        pickles = [file.name for file in directory.glob("*.bin")]
        found = f"; {', '.join(pickles)} is pickle and is not read" if pickles else ""
        raise FileNotFoundError(
            f"{directory} holds no .safetensors file{found}. Save the model again with "
            f"save_pretrained(…, safe_serialization=True)"
        )
    dtypes: set[str] = set()
    for file in files:
        try:
            with safe_open(file, "pt") as handle:
                dtypes |= {handle.get_slice(name).get_dtype() for name in handle.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(
                f"{file} is not a complete safetensors file ({error}); copy or save it again"
            ) from None
    return "/".join(sorted(dtypes))


def _read_tensors(location: str, adapter: ModelAdapter) -> dict[str, Tensor]:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, report = adapter.model_class().from_pretrained(
            location,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
    wrong = {kind: report.get(f"{kind}_keys") for kind in ("missing", "unexpected", "mismatched")}
    found = "; ".join(f"{kind}: {sorted(map(str, keys))}" for kind, keys in wrong.items() if keys)
    if found:
        raise ValueError(f"the weights in {location} do not fit its config.json: {found}")
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _check_finite(location: str, tensors: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ValueError(
            f"{location} holds NaN or Inf in {', '.join(bad[:5])}"
            f"{f' and {len(bad) - 5} more' if len(bad) > 5 else ''}; fine-tune or convert it again"
        )
