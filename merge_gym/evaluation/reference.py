"""The plain evaluator: assemble the model, run it, count. Every faster path is held against it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from merge_gym.evaluation.devices import check_device
from merge_gym.evaluation.model_scorer import ModelScorer
from merge_gym.merging.assembly import assemble
from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Recipe
from merge_gym.suites.sequences import by_example, end_to_end


class ReferenceEvaluator(ModelScorer):
    """Scores a recipe by building a transformers model for every task and calling it.

    Args:
        bank: where the recipes' layers come from.
        subsets: S, in how many subsets the search split is dealt.
        device: where the models run.
        batch_size: examples in one call.

    Raises ValueError where S exceeds the smallest search split, or the device is not there.
    """

    def __init__(
        self, bank: LayerBank, subsets: int = 10, device: str = "cpu", batch_size: int = 64
    ) -> None:
        super().__init__(bank, subsets)
        self.device = check_device(device)
        self.batch_size = batch_size

    def part(
        self, recipe: Recipe, task: str, split: str, subset: int | None
    ) -> NDArray[np.float32]:
        logits = self.logits(recipe, task, split, subset)
        examples = self.examples.examples(task, split, subset)
        return self.measured(recipe, task, logits, examples.labels, examples.targets).numpy()

    @torch.inference_mode()
    def logits(
        self, recipe: Recipe, task: str, split: str = "search", subset: int | None = None
    ) -> Tensor:
        """The model's output for each example of a task, as metrics take it, on the CPU."""
        model = assemble(recipe, self.bank, task).to(self.device)
        if split != "search" or subset is not None:
            return self._run(model, task, split, subset)
        parts = [self._run(model, task, split, each) for each in range(self.subset_count)]
        return torch.cat(parts)[torch.from_numpy(self.examples.subsets[task].order).argsort()]

    def _run(self, model: torch.nn.Module, task: str, split: str, subset: int | None) -> Tensor:
        """The logits of one subset, or of a split that has none, in batches."""
        examples = self.examples.examples(task, split, subset)
        logits = []
        for start in range(0, len(examples), self.batch_size):
            batch = examples[start : start + self.batch_size]
            inputs = {
                name: end_to_end(value).to(self.device) for name, value in batch.inputs.items()
            }
            logits.append(by_example(model(**inputs).logits, len(batch)).cpu())
        return torch.cat(logits)
