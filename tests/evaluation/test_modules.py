"""Modules: what is held once, however many tasks use it."""

from __future__ import annotations

import torch

from merge_gym import LayerBank
from merge_gym.evaluation.modules import Modules


def test_converted_shared_parameters_are_held_once_for_all_tasks(bank: LayerBank) -> None:
    modules = Modules(bank, torch.device("cpu"), torch.bfloat16, "device")
    models = [modules.model(bank.shared, task) for task in ("low", "high")]
    low, high = (model.get_parameter("vit.embeddings.position_embeddings") for model in models)
    assert low.dtype == torch.bfloat16
    assert low.data_ptr() == high.data_ptr()
    low, high = (model.get_parameter("classifier.weight") for model in models)
    assert not torch.equal(low, high)
