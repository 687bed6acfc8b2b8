"""Building a suite with a real backbone: DINOv2 out of an ONNX file, fine-tuned on grey images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import yaml
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image
from rich.progress import Progress

import merge_gym
from experiments.builders import expert_sets
from experiments.builders.expert_sets import Kind
from experiments.builders.files import Result, save_suite_file, save_weights
from experiments.builders.image_sources import LabelledImages, read_images
from experiments.builders.image_suite import ImageClassifier
from experiments.builders.onnx_backbone import read_dinov2
from merge_gym.evaluation.scorer import mean_over_tasks
from merge_gym.models import torchvision_shim
from merge_gym.recipe import Source

torchvision_shim.install()

from transformers import ViTImageProcessor  # noqa: E402

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
"""Of red, green and blue: what DINOv2 was trained with."""


@dataclass(frozen=True)
class NamedImages:
    """Grey images of some classes of a source.

    Attributes:
        rows: the images, their labels places in `names`.
        names: of the classes.
    """

    rows: LabelledImages
    names: tuple[str, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Places in `names`, shape (n,)."""
        return self.rows.labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.int64]) -> NamedImages:
        return NamedImages(self.rows[rows], self.names)

    def decoded(self) -> list[Image.Image]:
        """All images."""
        return [Image.fromarray(image) for image in self.rows.images]


def read_classes(source: DictConfig, part: str) -> NamedImages:
    """The images of a source's chosen classes; see `read_images`."""
    found, classes = read_images(source, part), list(source.classes)
    chosen = found[np.flatnonzero(np.isin(found.labels, classes))]
    places = np.array([classes.index(label) for label in chosen.labels], np.int64)
    names = tuple(source.names[number] for number in classes)
    return NamedImages(LabelledImages(chosen.images, places), names)


def build(config: DictConfig, directory: Path, bars: Progress) -> list[Result]:
    """Write pretrained model, data, experts and suite files; see `expert_sets.build`. The bank of
    each set ends with task arithmetic whose λ per expert is tuned on the search split."""
    results = expert_sets.build(KIND, config, directory, bars)
    weights = list(itertools.product(config.tuning, repeat=len(config.data.tasks)))
    bar = bars.add_task("tuning λ", total=len(config.seeds) * len(weights))
    for seed in config.seeds:
        file = directory / f"{config.name}-{seed}.yaml"
        _add_tuned(file, weights, partial(bars.advance, bar))
    return results


def _add_tuned(
    file: Path, weights: Sequence[tuple[float, ...]], advance: Callable[[], None]
) -> None:
    """Append the best task arithmetic to a suite file's operators; its shared tensors, which all
    recipes take where nothing else is said, are that merge's."""
    bank = merge_gym.LayerBank(merge_gym.load_suite(file), operators=[])
    scorer = merge_gym.Evaluator(bank, subsets=1)
    scores = {}
    for weight in weights:
        merge = bank.uniform(Source.operator("task_arithmetic", weight=weight))
        scores[weight] = mean_over_tasks(scorer.score(merge))
        advance()
    best = max(scores, key=scores.__getitem__)
    tuned = {"name": "task_arithmetic", "weight": list(best)}
    description = yaml.safe_load(file.read_text(encoding="utf-8"))
    description["operators"].append(tuned)
    description["shared"] = tuned
    description["provenance"]["tuning"] = {
        "grid": sorted({value for weight in weights for value in weight}),
        "weight": list(best),
        "search_accuracy": round(scores[best], 4),
    }
    save_suite_file(file, description)


def _save_pretrained(settings: DictConfig, target: Path) -> None:
    """Write the backbone in float16, as the experts are, with its image processor."""
    if settings.file is None:
        raise FileNotFoundError(f"{settings.title}: expected a file, got None. {settings.get}")
    save_weights(read_dinov2(Path(settings.file)), target)
    size = {"height": settings.pixels, "width": settings.pixels}
    ViTImageProcessor(size=size, **IMAGENET).save_pretrained(target)


def _open_expert(
    directory: Path, source: DictConfig, images: NamedImages, seed: int
) -> ImageClassifier:
    return ImageClassifier(directory, images.names, seed, "cpu", augment=False)


def _table(images: NamedImages) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    return {"image": images.decoded(), "label": images.labels.tolist()}, {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=list(images.names)),
    }


def _entry(source: DictConfig) -> dict[str, Any]:
    return {"metric": "accuracy", "columns": {"input": "image", "label": "label"}}


KIND = Kind(read_classes, _save_pretrained, _open_expert, _table, _entry)
