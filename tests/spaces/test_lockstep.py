"""Many episodes in arrays behave as the episodes that say what the rules are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from merge_gym.spaces.episode import Episode
from merge_gym.spaces.lockstep import Lockstep

starts = st.builds(
    Episode,
    candidates=st.integers(1, 3),
    sizes=st.sampled_from([(1,), (3,), (2, 1)]),
    max_steps=st.integers(1, 12),
    max_depth=st.none() | st.integers(1, 4),
    stacking=st.booleans(),
)


@settings(max_examples=80, deadline=None)
@given(starts, st.integers(1, 4), st.randoms(use_true_random=False))
def test_each_row_is_an_episode_given_the_same_actions(start, count, random):
    walks, episodes = Lockstep(start, count), [start.copy() for _ in range(count)]
    for _ in range(30):
        over = np.array([episode.ended for episode in episodes])
        episodes = [
            start.copy() if ended else episode
            for ended, episode in zip(over, episodes, strict=True)
        ]
        walks.begin(over)
        actions = np.array([random.randint(0, start.back) for _ in range(count)])
        for episode, action, ended in zip(episodes, actions, over, strict=True):
            if not ended:
                episode.step(int(action))
        walks.step(actions, ~over)
        for row, episode in enumerate(episodes):
            assert walks.cursor[row] == episode.cursor
            assert walks.steps[row] == episode.steps
            assert walks.depth[row] == episode.depth
            assert walks.invalid[row] == episode.invalid
            assert walks.complete[row] == episode.complete
            assert walks.ended[row] == episode.ended
            assert walks.taken(row) == episode.taken
            np.testing.assert_array_equal(walks.maps[row], episode.merging_map)
            np.testing.assert_array_equal(walks.mask()[row], episode.mask())
