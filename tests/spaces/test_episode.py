"""The rules of the MDP: what each action does to cursor, taken layers and budgets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_gym.spaces.episode import Episode

CANDIDATES = 3
SKIP, BACK = 3, 4


def walk(*actions, sizes=(3,), max_steps=12, max_depth=None):
    episode = Episode(CANDIDATES, sizes, max_steps, max_depth)
    for action in actions:
        episode.step(action)
    return episode


def test_taking_appends_the_candidates_layer_and_moves_on():
    episode = walk(0, 2)
    assert (episode.taken, episode.cursor, episode.steps) == ([(0, 0), (1, 2)], 2, 2)
    assert not episode.ended


def test_skip_moves_on_and_appends_nothing():
    episode = walk(0, SKIP)
    assert (episode.taken, episode.cursor) == ([(0, 0)], 2)


def test_back_returns_to_the_previous_layer_and_removes_nothing():
    episode = walk(0, 1, BACK)
    assert (episode.taken, episode.cursor) == ([(0, 0), (1, 1)], 1)
    assert not episode.ended


def test_a_layer_taken_again_after_back_is_stacked():
    episode = walk(0, 1, BACK, 2, 0)
    assert episode.taken == [(0, 0), (1, 1), (1, 2), (2, 0)]
    assert episode.complete
    assert episode.depth == 4


def test_merging_map_counts_the_takes_only():
    episode = walk(0, BACK, 0, SKIP, BACK, 2, 1)
    expected = [[2, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert episode.merging_map.dtype == np.float32
    np.testing.assert_array_equal(episode.merging_map, expected)


def test_episode_completes_when_the_cursor_passes_the_last_layer():
    assert not walk(0, 0).complete
    assert walk(0, 0, 0).complete
    assert walk(0, 0, SKIP).complete


def test_all_skips_complete_with_an_empty_model():
    episode = walk(SKIP, SKIP, SKIP)
    assert episode.complete
    assert episode.taken == []


def test_back_at_the_first_layer_is_invalid():
    episode = walk(BACK)
    assert episode.invalid
    assert episode.ended
    assert episode.cursor == 0


def test_back_to_the_first_layer_is_valid():
    assert not walk(0, BACK).ended


def test_spending_the_step_budget_short_of_the_end_is_invalid():
    assert not walk(0, 1, BACK, max_steps=4).ended
    assert walk(0, 1, BACK, 1, max_steps=4).invalid


def test_completing_on_the_last_step_of_the_budget_is_valid():
    assert walk(0, 1, 2, max_steps=3).complete


def test_taking_beyond_the_depth_budget_is_invalid_and_takes_nothing():
    episode = walk(0, 1, BACK, 1, max_depth=2)
    assert episode.invalid
    assert episode.depth == 2


def test_a_model_as_deep_as_the_depth_budget_is_valid():
    assert walk(0, 1, SKIP, max_depth=2).complete


def test_mask_is_int8_and_forbids_back_at_the_first_layer_only():
    assert walk().mask().dtype == np.int8
    assert walk().mask().tolist() == [1, 1, 1, 1, 0]
    assert walk(0).mask().tolist() == [1, 1, 1, 1, 1]


def test_mask_forbids_taking_at_the_depth_budget():
    assert walk(0, max_depth=2).mask().tolist() == [1, 1, 1, 1, 1]
    assert walk(0, 1, max_depth=2).mask().tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("action", [-1, 5, 1.0, 0.5, "0", None, np.float32(1), np.int64(5)])
def test_an_action_outside_the_space_is_refused_and_changes_nothing(action):
    episode = walk(0)
    with pytest.raises(ValueError, match="an integer from 0 to 4, got"):
        episode.step(action)
    assert episode == walk(0)


def test_numpy_integers_are_actions():
    assert walk(np.int64(0), np.uint8(2)) == walk(0, 2)


def test_a_copy_walks_on_by_itself():
    episode = walk(0)
    copy = episode.copy()
    copy.step(1)
    assert episode == walk(0)
    assert copy == walk(0, 1)


def test_the_cursor_goes_back_across_a_segment_boundary():
    """An encoder of two layers, a decoder of two: layers are numbered through both."""
    episode = walk(0, 1, 2, BACK, BACK, 0, 1, SKIP, sizes=(2, 2), max_steps=20)
    assert episode.taken == [(0, 0), (1, 1), (2, 2), (1, 0), (2, 1)]
    assert episode.complete


@given(
    actions=st.lists(st.integers(0, BACK), max_size=40),
    sizes=st.sampled_from([(1,), (3,), (2, 2)]),
    max_steps=st.none() | st.integers(1, 20),
    max_depth=st.none() | st.integers(1, 5),
)
def test_any_walk_keeps_map_cursor_and_budgets_consistent(actions, sizes, max_steps, max_depth):
    episode = Episode(CANDIDATES, sizes, max_steps, max_depth)
    layers, cursor, takes = sum(sizes), 0, 0
    for count, action in enumerate(actions, start=1):
        allowed = episode.mask()[action]
        episode.step(action)
        assert episode.steps == count
        assert allowed or episode.invalid
        assert episode.merging_map.sum() == episode.depth == len(episode.taken)
        assert 0 <= episode.cursor <= layers
        assert max_depth is None or episode.depth <= max_depth
        assert max_steps is None or count < max_steps or episode.ended
        assert not (episode.invalid and episode.complete)
        if episode.ended:
            assert episode.complete == (not episode.invalid and episode.cursor == layers)
            break
        cursor += -1 if action == BACK else 1
        takes += action < SKIP
        assert (episode.cursor, episode.depth) == (cursor, takes)
