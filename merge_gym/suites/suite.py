"""The problem instance: a pretrained model, its experts, and the tasks they are merged for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from merge_gym.models import Checkpoint, ModelAdapter, adapter_for
from merge_gym.models.checkpoint import function_of
from merge_gym.models.storage import Allocate, in_memory


@dataclass(frozen=True)
class Split:
    """Preprocessed examples.

    Attributes:
        inputs: what the model is called with, by argument name; first dimension n. Tokens may have
            the shape (n, choices, length): several sequences an example.
        labels: int64, shape (n,): the class or the right choice; 0 where a task has neither.
        targets: int64, the tokens that a language model is to predict, as metrics take them.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Split:
        """The examples at a slice or index array."""
        return Split(
            {name: value[index] for name, value in self.inputs.items()},
            self.labels[index],
            None if self.targets is None else self.targets[index],
        )


@dataclass(frozen=True)
class Task:
    """What a merged model is scored on.

    Attributes:
        name: the task's name.
        expert: the expert whose head the task uses.
        metric: a name in `merge_gym.suites.metrics`.
        splits: `search` (rewards) and `test` (reports).
    """

    name: str
    expert: str
    metric: str
    splits: Mapping[str, Split]


@dataclass(frozen=True)
class Suite:
    """Pretrained model + experts + tasks.

    Attributes:
        name, description, licence: as the suite file says.
        pretrained: the common ancestor.
        experts: the fine-tuned models by name, in action order.
        tasks: the tasks by name; without any, recipes can be exported but not scored.
        operators: the suite's default bank, as LayerBank takes it.
        shared: the default source of the parameters outside the layers.
        allocate: makes room for a merged model's weights.
    """

    name: str
    description: str
    licence: str
    pretrained: Checkpoint
    experts: Mapping[str, Checkpoint]
    tasks: Mapping[str, Task]
    operators: tuple[str | Mapping[str, Any], ...]
    shared: str | Mapping[str, Any]
    allocate: Allocate = in_memory

    @cached_property
    def adapter(self) -> ModelAdapter:
        """How the suite's architecture opens."""
        return adapter_for(self.pretrained.config)

    def __getstate__(self) -> dict[str, Any]:
        """Without the adapter, whose functions cannot be pickled: it is opened again."""
        return {name: value for name, value in vars(self).items() if name != "adapter"}

    @property
    def heads(self) -> dict[str, Checkpoint]:
        """The expert whose head each task uses, by task; of a suite without tasks, the experts."""
        if not self.tasks:
            return dict(self.experts)
        return {name: self.experts[task.expert] for name, task in self.tasks.items()}

    @cached_property
    def digest(self) -> str:
        """A fingerprint of everything that a score depends on: weights and the function they are
        used in, heads, examples, metrics; the first 16 hexadecimal digits of a SHA-256."""
        digest = hashlib.sha256()
        for name, model in {"": self.pretrained, **self.experts}.items():
            digest.update(name.encode())
            digest.update(json.dumps(function_of(model.config), default=str).encode())
            _update(digest, model.parameters.flat, *model.head.values())
        for task in self.tasks.values():
            digest.update(f"{task.name}/{task.expert}/{task.metric}".encode())
            for split in task.splits.values():
                _update(digest, *split.inputs.values(), split.labels)
                if split.targets is not None:
                    _update(digest, split.targets)
        return digest.hexdigest()[:16]


def _update(digest: hashlib._Hash, *tensors: Tensor) -> None:
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
