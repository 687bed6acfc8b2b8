"""Checkpoints of timm's Vision Transformers, narrow and random."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merge_gym.models import torchvision_shim

torchvision_shim.install()
timm = pytest.importorskip("timm")

SIZES = {"img_size": 32, "embed_dim": 24, "depth": 3, "num_heads": 2}


def save_timm(directory: Path, architecture: str) -> None:
    """A checkpoint as timm writes them for the hub."""
    directory.mkdir()
    model = timm.create_model(architecture, pretrained=False, num_classes=5, **SIZES)
    tensors = {
        name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in model.state_dict().items()
    }
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architecture": architecture,
        "num_classes": 5,
        "num_features": 24,
        "model_args": SIZES,
        "label_names": ["a", "b", "c", "d", "e"],
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (directory / "config.json").write_text(json.dumps(config))
