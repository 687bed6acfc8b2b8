"""Which task an input belongs to: a small network, or class means, on features that are at hand."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from merge_gym.messages import unknown_name
from merge_gym.models.adapter import Inputs, ModelAdapter

FEATURES = ("pixels", "stem", "trunk")
KINDS = ("mlp", "means")

MOST, EPOCHS, BATCH, LEARNING_RATE, WIDTH = 1000, 30, 32, 5e-4, 128
"""As published (arXiv:2602.06552), but for the width and batch, of which nothing is said."""

HELD_OUT, SHRINKAGE = 0.2, 0.1


class Router(nn.Module):
    """Tells the tasks of inputs apart.

    Args:
        tasks: their names.
        features: what it looks at, see `read_features`.
        kind: `mlp`, three layers; `means`, without training: the nearest mean of a task's features
            under their common covariance (linear discriminant analysis).
        width: how many features there are.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, tasks: tuple[str, ...], features: str, kind: str, width: int) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(unknown_name("router", kind, KINDS))
        self.tasks, self.features, self.kind = tasks, features, kind
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        sizes = [width, WIDTH, WIDTH, len(tasks)] if kind == "mlp" else [width, len(tasks)]
        self.layers = nn.ModuleList(
            nn.Linear(one, other) for one, other in itertools.pairwise(sizes)
        )

    def forward(self, features: Tensor) -> Tensor:
        """A score of each task, shape (n, tasks), of features of shape (n, width)."""
        values = (features - self.mean) / self.deviation
        for layer in self.layers[:-1]:
            values = functional.relu(layer(values))
        return self.layers[-1](values)


def read_features(kind: str, adapter: ModelAdapter, model: Any, inputs: Inputs) -> Tensor:
    """What a router looks at, shape (n, width): the `pixels`; hidden states after the `stem` or
    the whole `trunk` of a model, their mean and the first token's.

    Raises ValueError for features that are unknown, and for pixels where inputs have none.
    """
    if kind not in FEATURES:
        raise ValueError(unknown_name("features of a router", kind, FEATURES))
    if kind == "pixels":
        if "pixel_values" not in inputs:
            raise ValueError("these inputs have no pixels: let the router look at stem or trunk")
        return inputs["pixel_values"].flatten(1).float()
    segment = next(iter(adapter.segments))
    hidden, context = adapter.enter(model, segment, inputs, None)
    if kind == "trunk":
        for layer in adapter.layers(model)[segment]:
            hidden = adapter.layer(layer, hidden, context)
    return torch.cat([hidden.mean(1), hidden[:, 0]], 1).float()


def train_router(
    features: Mapping[str, Tensor], of: str, kind: str = "mlp", seed: int = 0
) -> Router:
    """A router that is fitted to the features of inputs of each task's search split.

    Args:
        features: {task: shape (n, width)}; at most 1,000 of each are used.
        of: which features they are.
        kind: of the router. An `mlp` is that of the epoch which is best on a fifth held out.
        seed: of what is random.
    """
    generator = torch.Generator().manual_seed(seed)
    fit, held = [], []
    for number, values in enumerate(features.values()):
        order = torch.randperm(len(values), generator=generator)[:MOST]
        cut = int(len(order) * HELD_OUT) if kind == "mlp" else 0
        held.append((values[order[:cut]], torch.full((cut,), number)))
        fit.append((values[order[cut:]], torch.full((len(order) - cut,), number)))
    inputs, labels = (torch.cat(parts) for parts in zip(*fit, strict=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        router = Router(tuple(features), of, kind, inputs.shape[1])
    router.mean.copy_(inputs.mean(0))
    router.deviation.copy_(inputs.std(0).clamp(min=1e-6))
    if kind == "means":
        return _fit_means(router, inputs, labels).eval()
    others, truth = (torch.cat(parts) for parts in zip(*held, strict=True))
    return _fit_network(router, inputs, labels, others, truth, generator).eval()


@torch.no_grad()
def _fit_means(router: Router, inputs: Tensor, labels: Tensor) -> Router:
    values = ((inputs - router.mean) / router.deviation).double()
    means = torch.stack([values[labels == number].mean(0) for number in range(len(router.tasks))])
    rest = values - means[labels]
    covariance = rest.T @ rest / len(values)
    ridge = SHRINKAGE * covariance.trace() / len(covariance)
    covariance = (1 - SHRINKAGE) * covariance + ridge * torch.eye(len(covariance)).double()
    weight = torch.linalg.solve(covariance, means.T).T
    bias = -(weight * means).sum(1) / 2
    router.layers[0].load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return router


def _fit_network(
    router: Router,
    inputs: Tensor,
    labels: Tensor,
    others: Tensor,
    truth: Tensor,
    generator: torch.Generator,
) -> Router:
    optimiser = torch.optim.Adam(router.parameters(), LEARNING_RATE)
    best, kept = -1.0, copy.deepcopy(router.state_dict())
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs), generator=generator).split(BATCH):
            optimiser.zero_grad()
            functional.cross_entropy(router(inputs[rows]), labels[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            right = float((router(others).argmax(1) == truth).double().mean())
        if right > best:
            best, kept = right, copy.deepcopy(router.state_dict())
    router.load_state_dict(kept)
    return router
