"""Building a suite of image classifiers: one pretrained checkpoint, fine-tuned on each source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL.Image import Image
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from experiments.builders import expert_sets
from experiments.builders.expert_sets import Kind, open_with_head
from experiments.builders.files import Result, save_weights
from experiments.builders.image_rows import ImageRows, read_image_rows
from merge_gym.models import check_checkpoint, torchvision_shim
from merge_gym.models.files import copy_processor, local_directory
from merge_gym.models.weights import quiet
from merge_gym.suites.data import open_image_processor

torchvision_shim.install()

from transformers import AutoModelForImageClassification, PreTrainedModel  # noqa: E402

SHIFT = 14
"""Training images are shifted by up to their size divided by this: 16 of 224 pixels."""


class Images(Protocol):
    """Images that are decoded when they are asked for."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Places in the head, shape (n,)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> Self: ...

    def decoded(self) -> list[Image]:
        """All of them."""


class ImageClassifier:
    """A pretrained model with a fresh head, and its image processor.

    Args:
        directory: of the pretrained checkpoint.
        names: of the classes.
        seed: of the head, of dropout and of augmentation.
        device: where the model runs.
        augment: whether training images are mirrored and shifted.
    """

    def __init__(
        self, directory: Path, names: Sequence[str], seed: int, device: str, augment: bool = True
    ) -> None:
        model = open_with_head(AutoModelForImageClassification, directory, names, seed)
        self.model: PreTrainedModel = model.to(device)
        self.seed, self.device, self.augment = seed, device, augment
        self.pixels = open_image_processor(str(directory), model.config)

    def logits(self, pixels: Tensor) -> Tensor:
        """The head's output, shape (n, classes)."""
        return self.model(pixel_values=pixels.to(self.device)).logits

    def loss_on(self, images: Images) -> Callable[[Tensor], Tensor]:
        """The mean cross entropy of the images of these numbers, shape (batch,)."""
        generator = torch.Generator().manual_seed(self.seed)

        def loss(batch: Tensor) -> Tensor:
            chosen = images[batch.numpy()]
            pixels = self.pixels(chosen.decoded())
            pixels = augmented(pixels, generator) if self.augment else pixels
            return cross_entropy(self.logits(pixels), torch.tensor(chosen.labels).to(self.device))

        return loss

    @torch.inference_mode()
    def score(self, images: Images, batch_size: int = 64) -> float:
        """Share of the images whose largest logit is their label's."""
        hits = 0
        for rows in np.array_split(np.arange(len(images)), -(-len(images) // batch_size)):
            logits = self.logits(self.pixels(images[rows].decoded()))
            hits += int((logits.argmax(-1).cpu().numpy() == images.labels[rows]).sum())
        return hits / len(images)


def augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored or not, and shifted, with zeros where nothing is left.

    Args:
        pixels: shape (n, channels, height, width), as is what is returned.
        generator: what is drawn from.
    """
    count, _, height, width = pixels.shape
    margin = height // SHIFT
    mirrored = torch.rand(count, generator=generator) < 0.5
    corners = torch.randint(0, 2 * margin + 1, (count, 2), generator=generator).tolist()
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    return torch.stack(
        [
            image[:, top : top + height, left : left + width]
            for image, (top, left) in zip(pad(pixels, [margin] * 4), corners, strict=True)
        ]
    )


def build(config: DictConfig, directory: Path, bars: Progress) -> list[Result]:
    """Write pretrained model, data, experts and suite files; see `expert_sets.build`."""

    def open_expert(
        pretrained: Path, source: DictConfig, images: ImageRows, seed: int
    ) -> ImageClassifier:
        return ImageClassifier(pretrained, images.names, seed, config.device)

    kind = Kind(read_image_rows, _save_pretrained, open_expert, _table, _entry)
    return expert_sets.build(kind, config, directory, bars)


def _save_pretrained(settings: DictConfig, target: Path) -> None:
    """Write the pretrained model in float16, as the experts are."""
    source = local_directory(settings.directory)
    check_checkpoint(str(source))
    torch.manual_seed(0)  # of a head, where the checkpoint has none
    with quiet():
        model = AutoModelForImageClassification.from_pretrained(source)
    save_weights(model, target)
    copy_processor(source, target)


def _table(images: ImageRows) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    encoded = [{"bytes": content, "path": None} for content in images.encoded()]
    return {"image": encoded, "label": images.labels.tolist()}, {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=list(images.names)),
    }


def _entry(source: DictConfig) -> dict[str, Any]:
    return {"metric": "accuracy", "columns": {"input": "image", "label": "label"}}
