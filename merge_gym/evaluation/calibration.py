"""How layers run fastest on this machine, measured when an evaluator is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

CHUNKS = {"cpu": (16, 32, 64, 128), "cuda": (64, 128, 256, 512, 1024)}
"""Chunk sizes to try, by kind of device."""

ROUNDS = 10
"""How often all of them are tried: other work on the machine comes and goes."""

BUDGET = 1.0
"""Seconds after which no further round is begun."""

LONG_CALL = 0.05
"""Seconds of a layer's call from which larger chunks are not tried."""


@dataclass(frozen=True)
class Setting:
    """How layers are run.

    Attributes:
        chunk: examples in one call.
        convolved: whether linear layers are convolutions, see `products`.
    """

    chunk: int
    convolved: bool


Prepare = Callable[[Setting], tuple[Callable[[], object], int]]
"""Gives a call of one layer as a setting has it, and its number of examples."""


def calibrate(prepare: Prepare, kinds: Sequence[bool], device: torch.device) -> Setting:
    """The fastest of `kinds` (convolved or not), with the largest chunk that is within a tenth of
    the least time an example."""
    calls, seconds = {}, {}
    for convolved in kinds:
        for size in CHUNKS.get(device.type, CHUNKS["cpu"]):
            setting = Setting(size, convolved)
            calls[setting] = call, examples = prepare(setting)
            _time(call, device)
            taken = _time(call, device)
            seconds[setting] = taken / examples
            if examples < size or taken > LONG_CALL:
                break
    begun = time.perf_counter()
    for _ in range(1, ROUNDS):
        if time.perf_counter() - begun > BUDGET:
            break
        for setting, (call, examples) in calls.items():
            seconds[setting] = min(seconds[setting], _time(call, device) / examples)
    fastest = min(seconds, key=seconds.__getitem__)
    near = [
        setting
        for setting in seconds
        if setting.convolved == fastest.convolved and seconds[setting] <= 1.1 * seconds[fastest]
    ]
    return max(near, key=lambda setting: setting.chunk)


def _time(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
