"""Balanced subsets, and the order in which episodes use them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_gym.evaluation.subsets import SubsetSchedule, balanced_subsets


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_subsets_deal_out_every_example_once_and_every_class_evenly(labels, data):
    labels = np.array(labels)
    count = data.draw(st.integers(1, len(labels)))
    subsets = balanced_subsets(labels, count)
    assert len(subsets) == count
    assert sorted(np.concatenate(subsets).tolist()) == list(range(len(labels)))
    sizes = [len(subset) for subset in subsets]
    assert max(sizes) - min(sizes) <= 1
    for each in np.unique(labels):
        of_class = [(labels[subset] == each).sum() for subset in subsets]
        assert max(of_class) - min(of_class) <= 1


def test_subsets_are_sorted_and_the_same_every_time():
    """Class by class the examples are 1, 3, 5, 6 and 0, 2, 4, dealt out in turn."""
    subsets = balanced_subsets(np.array([1, 0, 1, 0, 1, 0, 0]), 2)
    assert [subset.tolist() for subset in subsets] == [[0, 1, 4, 5], [2, 3, 6]]


@pytest.mark.parametrize("count", [0, -1, 8])
def test_a_count_outside_1_to_the_number_of_examples_is_refused(count):
    with pytest.raises(ValueError, match=rf"between 1 and the 7 examples .* got {count}"):
        balanced_subsets(np.zeros(7, np.int64), count)


def passes(schedule, count):
    orders = []
    for _ in range(count):
        orders.append([])
        for _ in range(schedule.count):
            orders[-1].append(schedule.current)
            schedule.advance()
    return orders


def test_each_pass_uses_every_subset_once_in_a_fresh_order():
    orders = passes(SubsetSchedule(8, np.random.default_rng(0)), 3)
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_the_generator_decides_the_order():
    first, again, other = (
        passes(SubsetSchedule(8, np.random.default_rng(seed)), 2) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_a_schedule_continues_from_its_state():
    generator = np.random.default_rng(0)
    schedule = SubsetSchedule(5, generator)
    for _ in range(3):
        schedule.advance()
    state, random_state = schedule.state(), generator.bit_generator.state
    expected = passes(schedule, 2)
    resumed = SubsetSchedule(5, np.random.default_rng(9))
    resumed.set_state(state)
    resumed.generator.bit_generator.state = random_state
    assert passes(resumed, 2) == expected
