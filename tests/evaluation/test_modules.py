"""Modules: what is held once, however many tasks use it."""

from __future__ import annotations

import pytest
import torch

from merge_gym import LayerBank
from merge_gym.evaluation import modules as modules_module
from merge_gym.evaluation.modules import Modules, choose_placement
from merge_gym.recipe import Layer


def test_converted_shared_parameters_are_held_once_for_all_tasks(bank: LayerBank) -> None:
    modules = Modules(bank, torch.device("cpu"), torch.bfloat16, "device")
    models = [modules.model(bank.candidates.shared, task) for task in ("low", "high")]
    low, high = (model.get_parameter("vit.embeddings.position_embeddings") for model in models)
    assert low.dtype == torch.bfloat16
    assert low.data_ptr() == high.data_ptr()
    low, high = (model.get_parameter("classifier.weight") for model in models)
    assert not torch.equal(low, high)


def test_a_plain_layer_and_its_convolved_twin_hold_the_same_copies(bank: LayerBank) -> None:
    modules = Modules(bank, torch.device("cpu"), torch.bfloat16, "device")
    layer = Layer.of(0, bank.candidates.sources[-1])
    convolved, plain = (modules.layer("layers", layer, kind) for kind in (True, False))
    assert convolved is not plain
    assert modules.layer("layers", layer, convolved=True) is convolved
    copies = dict(convolved.named_parameters())
    for name, parameter in plain.named_parameters():
        assert parameter.dtype == torch.bfloat16
        assert parameter.data_ptr() == copies[name].data_ptr()


def test_a_cpu_holds_the_banks_own_tensors(bank: LayerBank) -> None:
    assert choose_placement(bank, torch.device("cpu"), torch.float32) == "device"


@pytest.mark.parametrize(("memory", "placement"), [(2**40, "device"), (1000, "host")])
def test_copies_of_the_bank_are_held_where_memory_allows(
    bank: LayerBank, monkeypatch: pytest.MonkeyPatch, memory: int, placement: str
) -> None:
    monkeypatch.setattr(modules_module, "physical_memory", lambda: memory)
    assert choose_placement(bank, torch.device("cpu"), torch.bfloat16) == placement
