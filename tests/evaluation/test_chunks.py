"""Dealing the examples of a task into chunks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge_gym import LayerBank
from merge_gym.evaluation.chunks import Chunks
from merge_gym.evaluation.subsets import Examples


@pytest.fixture(scope="module")
def chunks(bank: LayerBank) -> Chunks:
    return Chunks(Examples(bank.suite, 6), torch.device("cpu"), torch.float32)


@settings(deadline=None)
@given(st.integers(1, 200), st.sampled_from([None, 0, 5]), st.booleans())
def test_chunks_hold_all_examples_in_order_and_no_more_each_than_asked(
    chunks: Chunks, most: int, subset: int | None, evenly: bool
) -> None:
    deal = chunks.deal_evenly if evenly else chunks.deal
    dealt = deal("low", "search", subset, most)
    examples = chunks._examples.size("low", "search", subset)
    assert [place for chunk in dealt for place in range(chunk.start, chunk.stop)] == list(
        range(examples)
    )
    assert all(len(chunk) <= most for chunk in dealt)


@settings(deadline=None)
@given(st.integers(1, 200))
def test_chunks_dealt_evenly_are_few_and_alike_but_for_the_last(chunks: Chunks, most: int) -> None:
    sizes = [len(chunk) for chunk in chunks.deal_evenly("low", "search", None, most)]
    assert len(sizes) <= len(chunks.deal("low", "search", None, most))
    assert set(sizes[:-1]) <= {sizes[0]}
    assert sizes[0] - sizes[-1] < len(sizes)
