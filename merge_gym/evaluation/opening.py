"""An engine from names and settings, which can be sent where a suite itself cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from merge_gym.evaluation.engine import Evaluator
from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Calibration
from merge_gym.suites import load_suite


def open_engine(
    suite: str,
    operators: Sequence[str | Mapping[str, Any]] | None = None,
    subsets: int = 10,
    device: str = "cpu",
    evaluation: Mapping[str, Any] | None = None,
    mapped: bool | None = None,
    threads: int = 1,
    heads: Calibration | None = None,
    **more: Any,
) -> Evaluator:
    """The scorer of a suite's recipes.

    Args:
        suite: a shipped suite's name or the path of a suite file.
        operators: names or `{"name": …, settings}`; None for the suite's own bank.
        subsets: S, in how many subsets the search split is dealt.
        device: where recipes are scored.
        evaluation: further settings of `Evaluator`, and `bank_bytes` of `LayerBank`.
        mapped: whether weights lie in mapped files, as `load_suite` takes it.
        threads: of torch, in this whole process.
        heads: how heads are calibrated, of `LayerBank`.
        **more: settings of `LayerBank` beside those.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is a whole number of at least 1, got {threads!r}")
    torch.set_num_threads(threads)
    settings = dict(evaluation or {})
    bank_bytes = settings.pop("bank_bytes", None)
    bank = LayerBank(
        load_suite(suite, mapped), operators, bank_bytes=bank_bytes, heads=heads, **more
    )
    return Evaluator(bank, subsets, device, **settings)
