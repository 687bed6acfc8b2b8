"""Operators that range over whole models need not have all of them in memory at once."""

import sys

import pytest
import torch

from experiments.measuring import MEBIBYTE, measure
from merge_gym import operators

SIZE = 2**22
MODEL = 4 * SIZE / MEBIBYTE


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("name", ["balanced_task_arithmetic", "pcb", "ties"])
def test_memory_does_not_grow_with_the_number_of_experts(name):
    assert operators.get(name).scope == "model"
    generator = torch.Generator().manual_seed(0)
    pretrained, *experts = torch.randn(7, SIZE, generator=generator)
    few, many = (
        measure(lambda given=given: operators.merge(name, pretrained, given)).mebibytes
        for given in (experts[:3], experts)
    )
    assert many - few < MODEL
