"""The mask of allowed actions as a part of what is observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

NAMES = ("observations", "action_mask")
"""What RLlib calls the two parts."""

Observed = NDArray[np.float32] | Mapping[str, NDArray[Any]]
"""An observation, or with its mask {name: part}."""


def mask_names(observe_mask: Any) -> tuple[str, str] | None:
    """How observation and mask are called in a Dict observation; None for no mask in it.

    Args:
        observe_mask: false, true (`NAMES`), or the two names. ValueError for anything else.
    """
    if isinstance(observe_mask, bool):
        return NAMES if observe_mask else None
    pair = list(observe_mask) if isinstance(observe_mask, Sequence) else []
    if len(pair) != 2 or pair[0] == pair[1] or not all(isinstance(name, str) for name in pair):
        raise ValueError(
            f"observe_mask is true, false or the names of observation and mask, such as "
            f'("obs", "mask"), got {observe_mask!r}'
        )
    return pair[0], pair[1]


def space_with_mask(
    space: spaces.Box, actions: int, names: tuple[str, str] | None
) -> spaces.Box | spaces.Dict:
    """The space of what `with_mask` gives, for a mask of so many actions."""
    if names is None:
        return space
    return spaces.Dict({names[0]: space, names[1]: spaces.Box(0, 1, (actions,), np.int8)})


def with_mask(
    observation: NDArray[np.float32], mask: NDArray[np.int8], names: tuple[str, str] | None
) -> Observed:
    """An observation, or many, and the mask by their names; without names the observation."""
    return observation if names is None else {names[0]: observation, names[1]: mask}


def row_of(observed: Observed, row: int) -> Observed:
    """What one of many environments observes."""
    if isinstance(observed, Mapping):
        return {name: part[row] for name, part in observed.items()}
    return observed[row]
