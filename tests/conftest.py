"""What many tests share: one tiny suite, written once, and what stands on it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
_cache = tempfile.TemporaryDirectory(prefix="merge-gym-tests-")
os.environ["HF_DATASETS_CACHE"] = _cache.name

import pytest  # noqa: E402
import torch  # noqa: E402

from merge_gym import LayerBank, ReferenceEvaluator, Suite, load_suite  # noqa: E402
from tests.searching import *  # noqa: E402, F403
from tests.tiny import write_suite  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny suite's file; a test that changes the suite copies its directory."""
    return write_suite(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def suite(suite_file: Path) -> Suite:
    return load_suite(suite_file)


@pytest.fixture(scope="session")
def bank(suite: Suite) -> LayerBank:
    return LayerBank(suite)


@pytest.fixture(scope="session")
def evaluator(bank: LayerBank) -> ReferenceEvaluator:
    return ReferenceEvaluator(bank, subsets=6)
