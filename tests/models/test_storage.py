"""Weights in memory and in mapped files."""

from pathlib import Path

import pytest
import torch

from merge_gym import Evaluator, LayerBank, Recipe, load_suite
from merge_gym.models.storage import in_memory, on_disk, physical_memory
from merge_gym.suites import loading as loading_module

STATUS = Path("/proc/self/status")


def anonymous() -> int:
    """Bytes of this process's memory that no file stands behind."""
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon")]
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
def test_a_vector_on_disk_takes_none_of_the_processs_own_memory():
    before = anonymous()
    vector = on_disk(2**24, torch.float32)
    vector.fill_(1.0)
    assert vector.sum() == 2**24
    assert anonymous() - before < vector.nbytes // 4


def test_a_vector_on_disk_leaves_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    vector = on_disk(8, torch.float16)
    vector[:] = torch.arange(8)
    assert vector.tolist() == list(range(8))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_said_before_anything_is_written():
    with pytest.raises(OSError, match=r"large|space"):
        on_disk(2**50, torch.float32)


def test_a_mapped_suite_scores_as_one_in_memory(suite_file):
    recipe, scores = None, []
    for mapped in (False, True):
        suite = load_suite(suite_file, mapped=mapped)
        assert suite.allocate is (on_disk if mapped else in_memory)
        bank = LayerBank(suite)
        recipe = Recipe.uniform({"name": "ties", "density": 0.5}, bank)
        scores.append(Evaluator(bank, subsets=2).score(recipe))
    assert scores[0] == scores[1]


@pytest.mark.parametrize("memory", [2**40, 1000])
def test_weights_are_mapped_where_memory_is_short(suite_file, monkeypatch, memory):
    monkeypatch.setattr(loading_module, "physical_memory", lambda: memory)
    assert load_suite(suite_file).allocate is (in_memory if memory > 1000 else on_disk)


def test_physical_memory_is_that_of_a_computer():
    assert physical_memory() > 2**28
