"""Calibrated heads: what a head expects, made of what a merged trunk gives.

Merging moves a trunk's features away from those that a task's head was trained on. On a few hundred
inputs, without labels or gradients, a ridge regression from the merged trunk's features to the
expert's own ones is found in closed form and folded into the head's last linear layer.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from merge_gym.merging.bank import LayerBank
from merge_gym.merging.calibration import check_calibration
from merge_gym.merging.own_heads import with_own_head
from merge_gym.recipe import Calibration, Recipe, Source
from merge_gym.suites import Suite
from merge_gym.suites.sequences import end_to_end
from merge_gym.suites.suite import Split

BATCH = 64

STRENGTHS = 10.0 ** np.arange(-6, 2.5, 0.5)
"""Ridge strengths that are tried, as multiples of the features' mean squared singular value."""


@dataclass(frozen=True)
class Readout:
    """A head's last linear layer: weight (classes, width) and bias (classes,), if it has one."""

    weight: Tensor
    bias: Tensor | None


class Fit(NamedTuple):
    """What ridge regression gives.

    Attributes:
        mapping: shape (width, outputs).
        offset: shape (outputs,), zero without an intercept.
        left_out: for each row what the map gives that is fitted to all others, shape (n, outputs).
    """

    mapping: Tensor
    offset: Tensor
    left_out: Tensor


def calibrate(
    recipe: Recipe,
    suite: Suite,
    examples: int = 200,
    ridge: float | None = None,
    seed: int = 0,
) -> Recipe:
    """The recipe with heads that are calibrated to its trunk; scoring and exporting it do so.

    Args:
        recipe: of the suite.
        suite: whose tasks' search inputs are used, without their labels.
        examples: how many inputs of each task.
        ridge: strength of the penalty; None for the best by leave-one-out.
        seed: which inputs.

    Raises ValueError where the suite's heads cannot be calibrated so.
    """
    calibration = Calibration(examples, ridge, seed)
    check_calibration(calibration, suite)
    return dataclasses.replace(recipe, heads=calibration)


def calibrated_readout(recipe: Recipe, bank: LayerBank, task: str) -> Readout:
    """The last linear layer of a task's head, calibrated as the recipe says.

    Args:
        recipe: as `LayerBank.resolve` gives it, with a calibration.
        bank: where its layers come from.
        task: whose head.

    Raises ValueError where there are no more examples than features and no ridge.
    """
    calibration = recipe.heads
    assert calibration is not None
    merged = features(recipe, bank, task, _inputs(bank, task, calibration))
    expert = bank.suite.tasks[task].expert
    theirs = _own_features(bank, expert, task, calibration)
    model, _ = with_own_head(_of_expert(bank, expert), bank, task)
    own = model.get_submodule(bank.suite.adapter.readout)
    assert isinstance(own, nn.Linear)
    fit = ridge(merged, theirs, calibration.ridge, intercept=own.bias is not None)
    weight = own.weight.detach().double()
    bias = None if own.bias is None else (weight @ fit.offset + own.bias.detach().double()).float()
    return Readout((weight @ fit.mapping.T).float(), bias)


def ridge(given: Tensor, wanted: Tensor, strength: float | None, intercept: bool = True) -> Fit:
    """The linear map from `given` to `wanted` with the least squared error and ridge penalty.

    Args:
        given: float64, shape (n, width).
        wanted: float64, shape (n, outputs).
        strength: of the penalty, as a multiple of the mean squared singular value of `given`; None
            for the one of STRENGTHS with the least leave-one-out error, which ridge regression has
            in closed form: e_i / (1 − h_ii).
        intercept: whether the map has an offset.

    Raises ValueError where n is at most `width` and the strength is 0.
    """
    n, width = given.shape
    if strength == 0 and n <= width:
        raise ValueError(
            f"{n} examples do not determine a map from {width} features without a ridge: give more "
            f"examples, a ridge above 0, or none for the best by leave-one-out"
        )
    means = given.mean(0), wanted.mean(0)
    x = given - means[0] if intercept else given
    y = wanted - means[1] if intercept else wanted
    left, singular, right = torch.linalg.svd(x, full_matrices=False)
    squares, inner = singular**2, left.T @ y
    unit = float(squares.mean())
    strengths = STRENGTHS * unit if strength is None else [strength * unit]

    def errors(penalty: float) -> Tensor:
        """Of each row, by the map that is fitted to all others."""
        shrunk = squares / (squares + penalty)
        residual = y - left @ (shrunk[:, None] * inner)
        leverage = (left**2) @ shrunk + (1 / n if intercept else 0)
        return residual / (1 - leverage).clamp_min(1e-9)[:, None]

    best = min(strengths, key=lambda penalty: float((errors(penalty) ** 2).mean()))
    mapping = right.T @ ((singular / (squares + best))[:, None] * inner)
    offset = means[1] - means[0] @ mapping if intercept else torch.zeros_like(means[1])
    return Fit(mapping, offset, wanted - errors(best))


def _of_expert(bank: LayerBank, expert: str) -> Recipe:
    return bank.resolve(bank.candidates.uniform(Source.expert(expert)))


def _own_features(bank: LayerBank, expert: str, task: str, calibration: Calibration) -> Tensor:
    """The expert's features, remembered: every recipe is calibrated to the same."""
    key = (task, calibration.examples, calibration.seed)
    kept = bank.remembered_features.get(key)
    if kept is None:
        kept = features(_of_expert(bank, expert), bank, task, _inputs(bank, task, calibration))
        bank.remembered_features.put(key, kept, kept.nbytes)
    return kept


def _inputs(bank: LayerBank, task: str, calibration: Calibration) -> Split:
    """The examples of the search split that heads are calibrated on."""
    split = bank.suite.tasks[task].splits["search"]
    order = np.random.default_rng(calibration.seed).permutation(len(split))
    return split[torch.from_numpy(np.sort(order[: calibration.examples]))]


@torch.inference_mode()
def features(recipe: Recipe, bank: LayerBank, task: str, examples: Split) -> Tensor:
    """What the last layer of a task's head is given: float64, shape (n, width).

    Args:
        recipe: as `LayerBank.resolve` gives it.
        bank: where its layers come from.
        task: whose head.
        examples: n of that task.
    """
    model, _ = with_own_head(recipe, bank, task)
    seen: list[Tensor] = []
    readout = model.get_submodule(bank.suite.adapter.readout)
    hook = readout.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
    for start in range(0, len(examples), BATCH):
        inputs = examples[start : start + BATCH].inputs
        model(**{name: end_to_end(value) for name, value in inputs.items()})
    hook.remove()
    return torch.cat(seen).clone()
