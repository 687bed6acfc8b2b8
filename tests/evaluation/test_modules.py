"""Modules: what is held once, however many tasks use it."""

from __future__ import annotations

import pytest
import torch

from merge_gym import LayerBank
from merge_gym.evaluation import modules as modules_module
from merge_gym.evaluation.modules import Modules, choose_placement


def test_converted_shared_parameters_are_held_once_for_all_tasks(bank: LayerBank) -> None:
    modules = Modules(bank, torch.device("cpu"), torch.bfloat16, "device")
    models = [modules.model(bank.shared, task) for task in ("low", "high")]
    low, high = (model.get_parameter("vit.embeddings.position_embeddings") for model in models)
    assert low.dtype == torch.bfloat16
    assert low.data_ptr() == high.data_ptr()
    low, high = (model.get_parameter("classifier.weight") for model in models)
    assert not torch.equal(low, high)


def test_a_cpu_holds_the_banks_own_tensors(bank: LayerBank) -> None:
    assert choose_placement(bank, torch.device("cpu"), torch.float32) == "device"


@pytest.mark.parametrize(("memory", "placement"), [(2**40, "device"), (1000, "host")])
def test_copies_of_the_bank_are_held_where_memory_allows(
    bank: LayerBank, monkeypatch: pytest.MonkeyPatch, memory: int, placement: str
) -> None:
    monkeypatch.setattr(modules_module, "physical_memory", lambda: memory)
    assert choose_placement(bank, torch.device("cpu"), torch.bfloat16) == placement
