"""A suite small enough for tests: real handwritten digits, random experts around one ancestor."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from merge_gym.models import ADAPTERS, Checkpoint, Layout, Parameters, Place
from merge_gym.suites import Suite

from transformers import (  # isort: skip  # after merge_gym.models, which mends torchvision
    PretrainedConfig,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

EXPERTS = ("low", "high")
OPERATORS = ["average", {"name": "ties", "density": 0.5}, {"name": "dare", "density": 0.5}]


def write_suite(directory: Path, layers: int = 3) -> Path:
    """Write checkpoints, data and suite file under `directory`; returns the suite file."""
    torch.manual_seed(0)
    base = _model(layers)
    _save(base, directory / "pretrained")
    for expert in EXPERTS:
        model = _model(layers)
        model.load_state_dict(
            {
                name: value + 0.1 * torch.randn_like(value)
                for name, value in base.state_dict().items()
            }
        )
        _save(model, directory / expert)
    return write_suite_file(directory, _write_data(directory))


def write_suite_file(directory: Path, tasks: dict) -> Path:
    file = directory / "tiny.yaml"
    description = {
        "name": "tiny",
        "description": "Random experts on real digits.",
        "licence": "BSD-3-Clause",
        "pretrained": "pretrained",
        "experts": {expert: expert for expert in EXPERTS},
        "tasks": tasks,
        "operators": OPERATORS,
        "shared": "average",
    }
    file.write_text(yaml.safe_dump(description, sort_keys=False))
    return file


def _model(layers: int) -> ViTForImageClassification:
    return ViTForImageClassification(
        ViTConfig(
            image_size=8,
            patch_size=4,
            num_channels=1,
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=5,
        )
    )


def _save(model: ViTForImageClassification, directory: Path) -> None:
    model.save_pretrained(directory)
    ViTImageProcessor(
        size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5]
    ).save_pretrained(directory)


def _write_data(directory: Path) -> dict:
    digits = load_digits()
    tasks = {}
    for number, expert in enumerate(EXPERTS):
        rows = np.flatnonzero(digits.target // 5 == number)
        data = {}
        for split, chosen in (("search", rows[:60]), ("test", rows[60:140])):
            file = f"{expert}-{split}.parquet"
            _write_rows(digits, chosen, directory / file)
            data[split] = file
        tasks[expert] = {
            "expert": expert,
            "metric": "accuracy",
            "columns": {"input": "image", "label": "label"},
            "data": data,
        }
    return tasks


def _write_rows(digits, rows, file: Path) -> None:
    images = [Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)) for row in rows]
    datasets.Dataset.from_dict(
        {"image": images, "label": [int(digits.target[row]) % 5 for row in rows]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    ).to_parquet(file)


class TwoSegments:
    """An architecture of two encoder and two decoder layers, one weight each."""

    def __init__(self, config: object) -> None:
        self.segments = {"encoder": 2, "decoder": 2}
        self.components, self.writes, self.output_norm, self.final = {}, (), (), ()

    def component(self, name: str) -> str:
        return "rest"

    def shared_component(self, name: str) -> str:
        return "stem"


def two_segment_suite() -> Suite:
    """A suite without data, of models in two segments: enough to build recipes on."""
    layout = Layout.of(
        {
            Place("layer", "weight", segment, index): (3,)
            for segment in ("encoder", "decoder")
            for index in range(2)
        }
        | {Place("shared", "embedding"): (2,)}
    )
    ADAPTERS["two_segments"] = TwoSegments
    models = [
        Checkpoint(
            name,
            PretrainedConfig(model_type="two_segments"),
            Parameters(layout, torch.full((layout.size,), float(number))),
            head={},
        )
        for number, name in enumerate(("pretrained", *EXPERTS))
    ]
    return Suite(
        name="two-segments",
        description="",
        licence="",
        pretrained=models[0],
        experts=dict(zip(EXPERTS, models[1:], strict=True)),
        tasks={},
        operators=("average",),
        shared="average",
    )
