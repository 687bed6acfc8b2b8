"""The DINOv2 backbone in an ONNX file, by the names of its tensors: no ONNX runtime is needed.

An exporter keeps a parameter's name where a node takes the parameter as it is. A linear layer's
weight is transposed first and so becomes nameless; it is named after its MatMul node. The positions
of class token and patches, which are cut apart, are told by their shapes.
"""

from __future__ import annotations

from importlib.util import find_spec
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from merge_gym.models import torchvision_shim
from merge_gym.models.weights import quiet

torchvision_shim.install()

from transformers import Dinov2Config, Dinov2Model  # noqa: E402

BACKBONE = "backbone."
HEAD_SIZE = 64
"""Width of an attention head in every DINOv2."""


def read_dinov2(file: Path) -> Dinov2Model:
    """The backbone as a model of transformers, float32.

    Raises:
        FileNotFoundError: no such file, or no package to read it with.
        ValueError: a file that is no ONNX model, or whose tensors are not those of a DINOv2.
    """
    tensors = read_tensors(file)
    config = _config(tensors, file)
    with quiet():
        model, found = Dinov2Model.from_pretrained(
            None, config=config, state_dict=tensors, output_loading_info=True
        )
    problems = [name for kind in found.values() for name in kind]
    if problems:
        raise ValueError(f"{file} holds no whole DINOv2: {', '.join(map(str, sorted(problems)))}")
    return model


def read_tensors(file: Path) -> dict[str, Tensor]:
    """{name as in published DINOv2 checkpoints: tensor}."""
    graph = _graph(file)
    from onnx.numpy_helper import to_array

    held = {tensor.name: torch.tensor(to_array(tensor)) for tensor in graph.initializer}
    tensors = {
        name.removeprefix(BACKBONE): tensor
        for name, tensor in held.items()
        if name.startswith(BACKBONE)
    }
    for node in graph.node:
        path = node.name.strip("/").replace("/", ".")
        if path.startswith(BACKBONE) and node.op_type == "MatMul" and node.input[1] in held:
            name = path.removeprefix(BACKBONE).removesuffix("MatMul") + "weight"
            tensors[name] = held[node.input[1]].T.contiguous()
    token = tensors.get("embeddings.cls_token")
    if token is None:
        raise ValueError(f"{file} holds no backbone.embeddings.cls_token, as a DINOv2 would")
    positions = [
        tensor
        for name, tensor in held.items()
        if tensor.ndim == 3 and tensor.shape[-1] == token.shape[-1] and BACKBONE not in name
    ]
    if sorted(len(tensor[0]) > 1 for tensor in positions) != [False, True]:
        raise ValueError(
            f"{file} does not hold the positions of class token and patches in two tensors of "
            f"shape (1, tokens, {token.shape[-1]})"
        )
    ordered = sorted(positions, key=lambda tensor: len(tensor[0]))
    return tensors | {"embeddings.position_embeddings": torch.cat(ordered, 1)}


def _graph(file: Path) -> Any:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    if find_spec("onnx") is None:
        raise FileNotFoundError("ONNX files are read with the package onnx: pip install onnx")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(file).graph
    except DecodeError:
        raise ValueError(f"{file} is no ONNX model") from None


def _config(tensors: dict[str, Tensor], file: Path) -> Dinov2Config:
    """What the shapes say."""
    try:
        width, channels, patch, _ = tensors["embeddings.patch_embeddings.projection.weight"].shape
        hidden = tensors["encoder.layer.0.mlp.fc1.bias"].numel()
    except KeyError as error:
        raise ValueError(f"{file} holds no {error} in its backbone, as a DINOv2 would") from None
    patches = tensors["embeddings.position_embeddings"].shape[1] - 1
    return Dinov2Config(
        image_size=isqrt(patches) * patch,
        patch_size=patch,
        num_channels=channels,
        hidden_size=width,
        mlp_ratio=hidden // width,
        num_hidden_layers=1 + max(int(n.split(".")[2]) for n in tensors if ".layer." in n),
        num_attention_heads=max(1, width // HEAD_SIZE),
        use_mask_token=False,
    )
