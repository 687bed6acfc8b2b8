"""The slab of hidden states and the memo of scores."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge_gym.evaluation.cache import ActivationCache
from merge_gym.memory import Memo

ROWS, WIDTH = 8, 6
shapes = st.sampled_from([(1, 6), (3, 2, 3), (5, 4), (8, 3, 2)])


def new_cache():
    return ActivationCache(ROWS, WIDTH, torch.float32, torch.device("cpu"))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), shapes), max_size=30))
def test_what_is_kept_comes_back_unchanged_and_fits_the_slab(puts):
    cache, kept = new_cache(), {}
    for number, (key, shape) in enumerate(puts):
        if key not in cache:
            kept[key] = 100.0 * number + torch.arange(torch.Size(shape).numel()).view(shape)
            cache.put(key, kept[key])
        present = [key for key in kept if key in cache]
        assert sum(len(kept[key]) for key in present) <= ROWS
        for key in present:
            assert torch.equal(cache.get(key), kept[key])


def test_the_least_recently_read_goes_first():
    cache = new_cache()
    for key in "abcd":
        cache.put(key, torch.zeros(2, WIDTH))
    cache.get("a")
    cache.put("e", torch.zeros(3, WIDTH))
    assert [key for key in "abcde" if key in cache] == ["a", "d", "e"]


def test_what_comes_back_is_a_copy():
    cache = new_cache()
    cache.put("a", torch.zeros(2, WIDTH))
    cache.get("a").add_(1)
    assert cache.get("a").sum() == 0


def test_the_slab_is_the_only_memory():
    cache = new_cache()
    address = cache.slab.data_ptr()
    for key in range(100):
        cache.put(key, torch.full((4, WIDTH), float(key)))
    assert cache.slab.data_ptr() == address
    assert len(cache) == 2


def test_the_memo_forgets_the_least_recently_read_beyond_its_budget():
    memo = Memo(budget=30)
    for key in "abc":
        memo.put(key, key, 10)
    memo.get("a")
    memo.put("d", "d", 10)
    assert {key: memo.get(key) for key in "abcd"} == {"a": "a", "b": None, "c": "c", "d": "d"}


def test_a_value_beyond_the_whole_budget_is_not_kept():
    memo = Memo(budget=30)
    memo.put("a", "a", 31)
    assert memo.get("a") is None
    memo.put("b", "b", 30)
    assert memo.get("b") == "b"
