"""Reading checkpoints: safetensors only, checked before anything heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from merge_gym.models import lora
from merge_gym.models.adapter import ModelAdapter, Place, adapter_for
from merge_gym.models.files import check_config, check_weights, has_processor, local_directory
from merge_gym.models.parameters import SHARED, Group, Layout, Parameters
from merge_gym.models.storage import Allocate, in_memory
from merge_gym.models.weights import build, own_tensors, quiet, tied_names

SAME_FUNCTION = (
    "model_type",
    "architecture",
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "activation",
    "activation_function",
    "feed_forward_proj",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "rms_norm_eps",
    "rope_parameters",
    "sliding_window",
    "layer_types",
    "relative_attention_max_distance",
    "tie_word_embeddings",
)
"""Fields in which models that are to be merged agree; most of them no tensor's shape betrays. What
the families call differently stands there by each name."""

HALF = {"F16": torch.float16, "BF16": torch.bfloat16}
"""What weights stay in that are so on disk; all others are read as float32."""


@dataclass(frozen=True)
class Checkpoint:
    """One model in memory.

    Attributes:
        location: the directory or hub name that it was read from.
        config: its Hugging Face configuration.
        parameters: its mergeable tensors (layers and shared), in the dtype they have on disk;
            float32 where they have several.
        head: the tensors of its task head, by full name, as far as it holds them.
        dtype: the dtypes of its tensors on disk, such as "F16", or what they were cast up to.
        processor: the directory that holds its tokenizer or image processor, if there is one.
    """

    location: str
    config: PretrainedConfig
    parameters: Parameters
    head: Mapping[str, Tensor]
    dtype: str = ""
    processor: str | None = None


def check_checkpoint(location: str, base: str | None = None) -> PretrainedConfig:
    """The configuration of a checkpoint, after all checks that need no weights in memory.

    Args:
        location: the directory or hub name.
        base: the model that a peft adapter must have been trained on; None for the one it names.

    Raises:
        FileNotFoundError: the directory holds no config.json, no safetensors weights, or not all.
        ValueError: an unknown architecture or one that wants its own code, a truncated file.
    """
    directory = local_directory(location)
    if lora.is_adapter(directory):
        lora.check_adapter(directory)
    model = _model_directory(directory, base)
    check_config(model)
    check_weights(model)
    config = _config(model)
    if model != directory and (trained := lora.architecture(directory, config.model_type)):
        config.architectures = [trained]
    return config


def function_of(config: PretrainedConfig) -> dict[str, Any]:
    """What a configuration says of the function that weights are used in, by field; None where the
    architecture has no such field."""
    return {field: getattr(config, field, None) for field in SAME_FUNCTION}


def differences(config: PretrainedConfig, pretrained: PretrainedConfig) -> list[str]:
    """What makes a model of `config` no fine-tune of the pretrained one, in words."""
    theirs, ours = function_of(config), function_of(pretrained)
    found = {
        field: f"{field} is {theirs[field]!r} instead of {ours[field]!r}"
        for field in SAME_FUNCTION
        if theirs[field] != ours[field]
    }
    return [found["model_type"]] if "model_type" in found else list(found.values())


def common_dtype(locations: Iterable[str], base: str | None = None) -> str:
    """The dtype that holds the weights of all these checkpoints exactly: the one they have, or
    "F32" where they differ, which is a matter of precision and not of ancestry. A peft adapter has
    the dtype of its base."""
    found = {check_weights(_model_directory(local_directory(place), base)) for place in locations}
    return found.pop() if len(found) == 1 else "F32"


def load_checkpoint(
    location: str,
    need_head: bool = True,
    allocate: Allocate = in_memory,
    like: PretrainedConfig | None = None,
    dtype: str = "",
    base: str | None = None,
) -> Checkpoint:
    """Open a Hugging Face directory or hub name, a timm one, or a peft adapter, merged into full
    weights.

    Args:
        location: the directory or name.
        need_head: whether the weights must hold the task head; a pretrained model has none, or
            another, which is then left out.
        allocate: makes room for its parameters.
        like: an expert's configuration. A pretrained model is opened as the experts' class, with
            the trunk that it shares with them, whatever class it was saved as.
        dtype: what to cast up to, see `common_dtype`; empty for the dtype on disk.
        base: the model that a peft adapter must have been trained on; None for the one it names.

    Raises:
        FileNotFoundError, ValueError: as `check_checkpoint`; weights that do not fit the
            configuration, no head where one is needed, NaN or Inf values.
    """
    config = check_checkpoint(location, base)
    if like is not None:
        config.architectures = like.architectures
    directory = local_directory(location)
    model = _model_directory(directory, base)
    dtype = dtype or check_weights(model)
    adapter = adapter_for(config)
    tensors, absent, tied = _read_tensors(model, config, adapter, HALF.get(dtype, torch.float32))
    if model != directory:
        changed = lora.merged(directory, tensors, tied)
        absent -= changed.keys()
        _relabel(directory, config, adapter, tensors, changed)
        tensors |= changed
    if need_head and absent:
        raise ValueError(
            f"{location} holds no complete task head ({', '.join(adapter.head)}): it was saved as "
            f"{' '.join(config.architectures or ['a model without head'])}, expected "
            f"{adapter.model_class().__name__}"
        )
    _check_finite(location, tensors)
    head = {
        name: tensor.clone()  # a view of the mapped file would keep all of it in memory
        for name, tensor in tensors.items()
        if adapter.place(name).part == "head" and name not in absent
    }
    processor = processor_directory(location, base)
    parameters = _gather(tensors, adapter, allocate)
    return Checkpoint(location, config, parameters, head, dtype, processor)


def processor_directory(location: str, base: str | None = None) -> str | None:
    """Where a checkpoint's tokenizer or image processor lies; an adapter's may lie by its base."""
    directory = local_directory(location)
    places = (directory, _model_directory(directory, base))
    return next((str(place) for place in places if has_processor(place)), None)


def _model_directory(directory: Path, base: str | None) -> Path:
    """The directory of the whole model; an adapter's is another one."""
    return lora.base_directory(directory, base) if lora.is_adapter(directory) else directory


def _config(directory: Path) -> PretrainedConfig:
    config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    if config.model_type == "clip":  # of the two towers, the vision tower is merged
        config.vision_config.projection_dim = config.projection_dim
        return config.vision_config
    if config.model_type == "timm_wrapper":  # which takes the number of classes from num_labels
        arguments = config.model_args or {}
        config.model_args = {name: arguments[name] for name in arguments if name != "num_classes"}
    return config


def _gather(tensors: Mapping[str, Tensor], adapter: ModelAdapter, allocate: Allocate) -> Parameters:
    places = {name: adapter.place(name) for name in tensors}
    layout = Layout.of({places[name]: tuple(tensor.shape) for name, tensor in tensors.items()})
    return Parameters.gather(
        layout,
        {(_group(places[name]), places[name].name): tensor for name, tensor in tensors.items()},
        allocate,
    )


def _group(place: Place) -> Group:
    return (place.segment, place.index) if place.part == "layer" else SHARED


def _relabel(
    directory: Path,
    config: PretrainedConfig,
    adapter: ModelAdapter,
    tensors: Mapping[str, Tensor],
    changed: Mapping[str, Tensor],
) -> None:
    """Give `config` the number of classes of a head that was saved with an adapter; nothing else
    may have another shape than the base's."""
    for name, tensor in changed.items():
        if tensor.shape != tensors[name].shape:
            if adapter.place(name).part != "head":
                raise ValueError(
                    f"{directory} gives {name} the shape {list(tensor.shape)} instead of "
                    f"{list(tensors[name].shape)}: it was trained on another base model"
                )
            config.num_labels = tensor.shape[0]


def _read_tensors(
    directory: Path, config: PretrainedConfig, adapter: ModelAdapter, dtype: torch.dtype
) -> tuple[dict[str, Tensor], set[str], dict[str, str]]:
    """The model's tensors, the names of those of its task head that the files lack, and which are
    tied to which; `config` is told if the output matrix is tied, where only the files say so."""
    with quiet():
        model, report = adapter.model_class().from_pretrained(
            directory,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    tensors = {name: tensor.to(dtype) for name, tensor in own_tensors(model).items()}
    if adapter.output_as_saved:
        config.tie_word_embeddings = "lm_head.weight" not in tensors
    with torch.device("meta"):
        untied = tensors.keys() - own_tensors(build(adapter, config)).keys()
    absent = {name for name in report["missing_keys"] if adapter.place(name).part == "head"}
    wrong = {
        "missing": set(report["missing_keys"]) - absent,
        # What lies outside the layers of a model saved with another head belongs to that head.
        "unexpected": {
            name
            for name in report["unexpected_keys"]
            if not absent or adapter.place(name).part == "layer"
        },
        "not tied": untied,
        "mismatched": set(map(str, report["mismatched_keys"])),
    }
    found = "; ".join(f"{kind}: {_some(names)}" for kind, names in wrong.items() if names)
    if found:
        raise ValueError(
            f"the weights in {directory} do not fit its config.json{_opened_as(config, adapter)}: "
            f"{found}"
        )
    return tensors, absent, tied_names(model)


def _opened_as(config: PretrainedConfig, adapter: ModelAdapter) -> str:
    """Where an adapter opens a model as another class than it was saved as: that it does."""
    saved, opened = (config.architectures or [""])[0], adapter.model_class().__name__
    return "" if saved in ("", opened) else f", which names {saved}, opened here as {opened}"


def _check_finite(location: str, tensors: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ValueError(
            f"{location} holds NaN or Inf in {_some(bad)}; fine-tune or convert it again"
        )


def _some(names: Iterable[str], shown: int = 5) -> str:
    names = sorted(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
