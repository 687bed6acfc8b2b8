"""The plain evaluator: assemble the model, run it, count. Every faster path is held against it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from merge_gym.assembly import assemble
from merge_gym.bank import LayerBank
from merge_gym.evaluation.devices import check_device
from merge_gym.evaluation.subsets import Subsets
from merge_gym.recipe import Recipe
from merge_gym.suites import Split
from merge_gym.suites.metrics import METRICS


class Scorer(Protocol):
    """What scores recipes."""

    def score(
        self, recipe: Recipe, split: str = "search", subset: int | None = None
    ) -> dict[str, float]:
        """{task: its metric in [0, 1]} on a split, or on one subset of the search split."""

    def cost(self, split: str = "search", subset: int | None = None) -> int:
        """The evaluation cost of one score: examples pushed through a whole model."""


class ReferenceEvaluator:
    """Scores a recipe by building a transformers model for every task and calling it.

    Args:
        bank: where the recipes' layers come from.
        subsets: S, in how many slices the search split is dealt.
        device: where the models run.
        batch_size: examples in one call.

    Raises ValueError where S exceeds the smallest search split, or the device is not there.
    """

    def __init__(
        self, bank: LayerBank, subsets: int = 10, device: str = "cpu", batch_size: int = 64
    ) -> None:
        self.bank = bank
        self.device = check_device(device)
        self.batch_size = batch_size
        self.subsets = Subsets(bank.suite, subsets)

    def score(
        self, recipe: Recipe, split: str = "search", subset: int | None = None
    ) -> dict[str, float]:
        """{task: metric in [0, 1]} on `split`, or on one subset of the search split."""
        values = self.values(recipe, split, subset)
        return {task: float(value.mean(dtype=np.float64)) for task, value in values.items()}

    def values(
        self, recipe: Recipe, split: str = "search", subset: int | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """{task: the metric of each example, shape (n,)}; `score` is their mean."""
        return {
            name: METRICS[task.metric](
                self.logits(recipe, name, split, subset), self.subsets.labels(name, split, subset)
            ).numpy()
            for name, task in self.bank.suite.tasks.items()
        }

    @torch.inference_mode()
    def logits(
        self, recipe: Recipe, task: str, split: str = "search", subset: int | None = None
    ) -> Tensor:
        """The head's output for each example of a task, shape (n, classes), on the CPU."""
        model = assemble(recipe, self.bank, task).to(self.device)
        examples = self.subsets.examples(task, split, subset)
        logits = [
            model(**{key: value.to(self.device) for key, value in batch.inputs.items()}).logits
            for batch in _batches(examples, self.batch_size)
        ]
        return torch.cat(logits).cpu()

    def cost(self, split: str = "search", subset: int | None = None) -> int:
        """Examples pushed through a whole model by one score."""
        return self.subsets.cost(split, subset)


def _batches(examples: Split, size: int) -> list[Split]:
    return [examples[start : start + size] for start in range(0, len(examples), size)]
