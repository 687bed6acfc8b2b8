"""Memory of hidden states that were computed before: a slab."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Node:
    """Where an entry lies. Its rows are a list: thousands of small tensors, kept while large ones
    come and go between them, would fragment the heap by as much as the slab itself."""

    rows: list[int]
    shape: torch.Size

    @cached_property
    def span(self) -> slice | None:
        """Its rows as a slice; None where they do not follow one another."""
        span = slice(self.rows[0], self.rows[0] + len(self.rows))
        return span if self.rows == list(range(span.start, span.stop)) else None


class ActivationCache:
    """Hidden states by key in one preallocated slab; the least recently used make room.

    Every example takes one row of the slab, so entries of any number of examples share it without
    gaps. With keys (inputs, prefix of layers) the entries form a trie over candidates.

    Args:
        rows: how many examples the slab holds.
        width: values of the largest example.
        dtype, device: of the slab.
    """

    def __init__(self, rows: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.slab = torch.empty((rows, width), dtype=dtype, device=device)
        self._free = list(range(rows))
        self._nodes: OrderedDict[Hashable, _Node] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, key: Hashable) -> Tensor:
        """A copy of what was put under `key`; KeyError if it is not there."""
        node = self._nodes[key]
        self._nodes.move_to_end(key)
        columns = self._columns(node.shape)
        if node.span is not None:
            return columns[node.span].clone().view(node.shape)
        return columns.index_select(0, self._places(node)).view(node.shape)

    def put(self, key: Hashable, hidden: Tensor) -> None:
        """Keep `hidden`, shape (examples, …), evicting the least recently used to make room."""
        examples = len(hidden)
        while len(self._free) < examples:
            self._evict()
        node = _Node(self._free[-examples:], hidden.shape)
        del self._free[-examples:]
        columns, values = self._columns(hidden.shape), hidden.reshape(examples, -1)
        if node.span is not None:
            columns[node.span] = values
        else:
            columns.index_copy_(0, self._places(node), values)
        self._nodes[key] = node

    def clear(self) -> None:
        """Forget everything."""
        while self._nodes:
            self._evict()

    def _evict(self) -> None:
        _, oldest = self._nodes.popitem(last=False)
        self._free.extend(oldest.rows)

    def _places(self, node: _Node) -> Tensor:
        return torch.tensor(node.rows, device=self.slab.device)

    def _columns(self, shape: torch.Size) -> Tensor:
        return self.slab[:, : shape[1:].numel()]
