"""Examples that run through a model together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from merge_gym.evaluation.subsets import Examples
from merge_gym.suites.sequences import end_to_end


@dataclass(frozen=True)
class Chunk:
    """The examples from `start` to `stop` of one task's split, or of a subset of it."""

    task: str
    split: str
    subset: int | None
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Inputs(Mapping[str, Tensor]):
    """Some rows of a split's inputs, brought to device and precision only when they are read."""

    def __init__(
        self, inputs: Mapping[str, Tensor], rows: Any, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._inputs, self._rows = inputs, rows
        self._device, self._dtype = device, dtype

    def __getitem__(self, name: str) -> Tensor:
        values = end_to_end(self._inputs[name][self._rows]).to(self._device)
        return values.to(self._dtype) if values.is_floating_point() else values

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)


class Chunks:
    """Deals the examples of tasks into chunks.

    Args:
        examples: by split and subset.
        device, dtype: where and in what precision models are called with them.
    """

    def __init__(self, examples: Examples, device: torch.device, dtype: torch.dtype) -> None:
        self._examples = examples
        self._device, self._dtype = device, dtype
        self._dealt: dict[tuple[str, str, int | None, int], list[Chunk]] = {}

    def deal(self, task: str, split: str, subset: int | None, size: int) -> list[Chunk]:
        """All examples in order, `size` at a time; the last chunk may be smaller."""
        key = (task, split, subset, size)
        if key not in self._dealt:
            examples = self._examples.size(task, split, subset)
            self._dealt[key] = [
                Chunk(task, split, subset, start, min(start + size, examples))
                for start in range(0, examples, size)
            ]
        return self._dealt[key]

    def deal_evenly(self, task: str, split: str, subset: int | None, most: int) -> list[Chunk]:
        """All examples in order, in as few chunks as hold `most` each, alike in size: what is kept
        of one then takes the place of another without gaps."""
        examples = self._examples.size(task, split, subset)
        count = -(-examples // most)
        return self.deal(task, split, subset, -(-examples // count))

    def around(self, chunk: Chunk, row: int, size: int) -> tuple[Chunk, int]:
        """The chunk dealt with `size`, of one subset of a search split, that holds the example at
        `row` of `chunk`; and its row there."""
        subset, place = chunk.subset, chunk.start + row
        if chunk.split == "search" and subset is None:
            subsets = self._examples.subsets[chunk.task]
            subset = int(subsets.owner[place])
            place = int(subsets.rows[subset].searchsorted(place))
        return self.deal(chunk.task, chunk.split, subset, size)[place // size], place % size

    def inputs(self, chunk: Chunk) -> Inputs:
        """What the model is called with."""
        span = slice(chunk.start, chunk.stop)
        rows = self._examples.rows(chunk.task, chunk.subset)
        chosen = span if rows is None else torch.from_numpy(rows[span])
        inputs = self._examples.split(chunk.task, chunk.split).inputs
        return Inputs(inputs, chosen, self._device, self._dtype)

    def labels(self, chunk: Chunk) -> Tensor:
        """The labels, int64, on the CPU."""
        labels = self._examples.labels(chunk.task, chunk.split, chunk.subset)
        return labels[chunk.start : chunk.stop]

    def targets(self, chunk: Chunk) -> Tensor | None:
        """The target tokens, int64, on the CPU; None without a language model."""
        targets = self._examples.targets(chunk.task, chunk.split, chunk.subset)
        return None if targets is None else targets[chunk.start : chunk.stop]
