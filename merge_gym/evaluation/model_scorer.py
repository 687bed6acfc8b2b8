"""What the scorers that run models have in common."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from merge_gym.evaluation.scorer import (
    Outcome,
    Request,
    Scorer,
    as_recipe,
    chains,
    joined,
)
from merge_gym.evaluation.subsets import Examples
from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Recipe
from merge_gym.suites.metrics import METRICS

logger = logging.getLogger(__name__)


class ModelScorer(Scorer):
    """Scores the recipes of a bank by running models.

    A search split is always run subset by subset, so that a subset's values are the same to the
    bit whatever was asked for with them.

    Args:
        bank: where the recipes' layers come from.
        subsets: S, in how many subsets the search split is dealt.

    Raises ValueError where S exceeds the smallest search split.
    """

    def __init__(self, bank: LayerBank, subsets: int) -> None:
        self.bank = bank
        self.examples = Examples(bank.suite, subsets)
        self.tasks, self.subset_count = tuple(bank.suite.tasks), subsets

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        for request in requests:
            self.check(request)
        parts = [chains(request) for request in requests]
        outcomes = iter(self._scored([one for several in parts for one in several]))
        return [joined([next(outcomes) for _ in several]) for several in parts]

    def _scored(self, requests: Sequence[Request]) -> list[Outcome]:
        recipes = [self.bank.resolve(as_recipe(request)) for request in requests]
        outcomes: dict[int, Outcome] = {}
        for place in self.order(recipes):
            started = time.perf_counter()
            values = self._values(requests[place], recipes[place])
            seconds = time.perf_counter() - started
            outcomes[place] = Outcome(values, self.cost(requests[place]), seconds)
        return [outcomes[place] for place in range(len(requests))]

    def cost(self, request: Request) -> int:
        self.check(request)
        calibration = sum(map(self._calibration, chains(request)))
        return calibration + sum(
            self.examples.size(task, request.split, subset)
            for unit in self.units(request)
            for task in unit.tasks or ()
            for subset in (unit.subsets or (None,))
        )

    def _calibration(self, request: Request) -> int:
        """Examples that a recipe's heads are calibrated on."""
        heads = as_recipe(request).heads
        tasks = self.tasks if request.tasks is None else request.tasks
        return 0 if heads is None else heads.examples * len(tasks)

    def order(self, recipes: Sequence[Recipe]) -> Sequence[int]:
        """In which order to score a batch, such that what recipes share is at hand."""
        return range(len(recipes))

    @abstractmethod
    def part(
        self, recipe: Recipe, task: str, split: str, subset: int | None
    ) -> NDArray[np.float32]:
        """The metric of each example of one task, in a whole split or one subset of it."""

    def _values(self, request: Request, recipe: Recipe) -> dict[str, NDArray[np.float32]]:
        parts: dict[str, list[NDArray[np.float32]]] = {}
        for unit in self.units(request):
            for task in unit.tasks or ():
                subset = unit.subsets[0] if unit.subsets else None
                part = self.part(recipe, task, request.split, subset)
                parts.setdefault(task, []).append(part)
        return {
            task: several[0] if len(several) == 1 else np.concatenate(several)
            for task, several in parts.items()
        }

    @torch.inference_mode()
    def measured(
        self, recipe: Recipe, task: str, logits: Tensor, labels: Tensor, targets: Tensor | None
    ) -> Tensor:
        """A task's metric of each example; 0 where a logit is no number, and that is logged."""
        metric = METRICS[self.bank.suite.tasks[task].metric]
        values = metric.score(logits, labels, targets)
        broken = logits.isnan().flatten(1).any(1)
        if broken.any():
            logger.warning(
                "%d of %d examples of task %s score 0: their logits are no numbers, with %s",
                *(int(broken.sum()), len(broken), task, recipe),
            )
            values = torch.where(broken, 0.0, values)
        return values
