"""The plain evaluator: assemble the model, run it, count. Every faster path is held against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from merge_gym.evaluation.devices import check_device
from merge_gym.evaluation.sequences import by_example, end_to_end
from merge_gym.evaluation.subsets import Subsets
from merge_gym.merging.assembly import assemble
from merge_gym.merging.bank import LayerBank
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
            name: np.concatenate(
                [
                    METRICS[task.metric].score(logits, batch.labels, batch.targets).numpy()
                    for batch, logits in self._run(recipe, name, split, subset)
                ]
            )
            for name, task in self.bank.suite.tasks.items()
        }

    def logits(
        self, recipe: Recipe, task: str, split: str = "search", subset: int | None = None
    ) -> Tensor:
        """The model's output for each example of a task, as metrics take it, on the CPU."""
        return torch.cat([logits for _, logits in self._run(recipe, task, split, subset)])

    @torch.inference_mode()
    def _run(
        self, recipe: Recipe, task: str, split: str, subset: int | None
    ) -> Iterator[tuple[Split, Tensor]]:
        """The examples in batches, and their logits."""
        model = assemble(recipe, self.bank, task).to(self.device)
        examples = self.subsets.examples(task, split, subset)
        for start in range(0, len(examples), self.batch_size):
            batch = examples[start : start + self.batch_size]
            inputs = {
                name: end_to_end(value).to(self.device) for name, value in batch.inputs.items()
            }
            yield batch, by_example(model(**inputs).logits, len(batch)).cpu()

    def cost(self, split: str = "search", subset: int | None = None) -> int:
        """Examples pushed through a whole model by one score."""
        return self.subsets.cost(split, subset)
