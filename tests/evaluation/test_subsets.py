"""Balanced subsets, and the order in which episodes use them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_gym.evaluation.subsets import Subsets, SubsetSchedule, balanced_subsets


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


def test_a_schedule_draws_from_the_generator_that_it_shares():
    """Whoever holds the generator as it is can go on with the schedule: nothing else is drawn."""
    schedule = SubsetSchedule(5, np.random.default_rng(0))
    orders = passes(schedule, 2)
    generator = np.random.default_rng(0)
    expected = [generator.permutation(5).tolist() for _ in range(2)]
    assert orders == expected
    assert schedule.order.tolist() == generator.permutation(5).tolist()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_order_and_owner_say_where_each_example_went(labels, data):
    labels = np.array(labels)
    subsets = Subsets(labels, data.draw(st.integers(1, len(labels))))
    for subset, rows in enumerate(subsets.rows):
        assert (subsets.owner[rows] == subset).all()
    np.testing.assert_array_equal(subsets.in_order(labels[subsets.order]), labels)


def test_the_first_subsets_together_are_balanced_too():
    """Of 3 classes with 8 examples each, any first m of 4 subsets hold 2·m of each."""
    labels = np.repeat([0, 1, 2], 8)
    rows = Subsets(labels, 4).rows
    for count in range(1, 5):
        assert np.bincount(labels[np.concatenate(rows[:count])]).tolist() == [2 * count] * 3
