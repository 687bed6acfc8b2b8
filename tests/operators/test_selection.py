"""Selecting by rank without sorting."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merge_gym.operators._selection import kth_smallest, pieces

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(values=st.lists(numbers, min_size=1, max_size=30), data=st.data())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_kth_smallest_is_that_of_sorting(dtype, values, data):
    k = data.draw(st.integers(1, len(values)))
    assert kth_smallest(torch.tensor(values, dtype=dtype), k) == sorted(values)[k - 1]


def test_the_kth_smallest_of_many_pieces_is_exact():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 200_001, generator=generator) * 1e-3
    values[0, :1000] = values[1, 0]
    ordered = values.flatten().sort().values
    place = int(torch.searchsorted(ordered, values[1, 0]))
    for k in (1, 2, place, place + 1, place + 1000, place + 1001, 300_000, 600_002, 600_003):
        assert kth_smallest(values, k) == ordered[k - 1]


def test_pieces_are_views_that_cover_everything_in_step():
    first, second = torch.arange(600_000.0), torch.zeros(600, 1000)
    for source, target in pieces(first, second):
        target.copy_(source)
    assert torch.equal(second.flatten(), first)
