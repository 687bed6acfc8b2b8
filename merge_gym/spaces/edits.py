"""Edits of recipes at one layer, of many recipes at once, in arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
"""What stands at each layer of recipes, shape (n, L): a candidate 0..C-1; C, no layer; C+1+c,
candidate c's layer twice."""


@dataclass(frozen=True)
class Edits:
    """What one edit of a recipe may be.

    Edit number layer · (C+2) + choice puts candidate 0..C-1 at the layer, instead of what stands
    there; skips the layer (C); or stacks it (C+1): what stands there stands there twice.

    Args:
        candidates: C.
        layers: L.
        stacking: whether a layer may be stacked at all.
    """

    candidates: int
    layers: int
    stacking: bool = True

    @property
    def skip(self) -> int:
        """The choice, and the code, of no layer."""
        return self.candidates

    @property
    def choices(self) -> int:
        """C+2, at each layer."""
        return self.candidates + 2

    def __len__(self) -> int:
        """How many edits there are."""
        return self.layers * self.choices

    def apply(self, codes: Codes, edits: NDArray[np.int64]) -> Codes:
        """Each recipe with its edit, shape (n, L)."""
        layer, choice = np.divmod(edits, self.choices)
        rows, edited = np.arange(len(codes)), codes.copy()
        stack = choice > self.skip
        edited[rows, layer] = np.where(stack, codes[rows, layer] + self.skip + 1, choice)
        return edited

    def mask(self, codes: Codes) -> NDArray[np.bool_]:
        """Which edits change each recipe and are allowed, shape (n, L·(C+2))."""
        allowed = codes[:, :, None] != np.arange(self.choices)
        allowed[:, :, -1] = self.stacking & (codes < self.skip)
        return allowed.reshape(len(codes), -1)

    def undoing(self, codes: Codes, edits: NDArray[np.int64]) -> NDArray[np.int64]:
        """The edits that put back what these replaced; -1 where no single one does."""
        layer = edits // self.choices
        before = codes[np.arange(len(codes)), layer]
        return np.where(before <= self.skip, layer * self.choices + before, -1)

    def maps(self, codes: Codes) -> NDArray[np.float32]:
        """The merging maps of recipes, shape (n, C, L)."""
        single, twice = codes % (self.skip + 1), codes // (self.skip + 1)
        there = single[:, None, :] == np.arange(self.candidates)[:, None]
        return (there * (1 + twice[:, None, :])).astype(np.float32)

    def taken(self, code: Codes) -> list[tuple[int, int]]:
        """The (layer, candidate) pairs of one recipe, shape (L,), from the input to the output."""
        pairs = []
        for layer, stands in enumerate(code.tolist()):
            twice, source = divmod(stands, self.skip + 1)
            pairs += [(layer, source)] * (1 + twice) * (source < self.skip)
        return pairs
