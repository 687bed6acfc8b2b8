"""What a space is given that it cannot spell."""

from __future__ import annotations

import pytest

from merge_gym import rewards
from merge_gym.recipe import Source, whole
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.layerwise import Layerwise


def candidates(expert: str) -> Candidates:
    sources = [Source.expert(expert), Source.expert("other")]
    names = [expert, "other"]
    return Candidates("tiny", "0" * 16, {"layers": 2}, sources, names, whole(sources[1]))


@pytest.mark.parametrize("expert", ["take", "skip", "scale"])
def test_an_expert_called_like_a_decision_is_refused(expert):
    with pytest.raises(ValueError, match=f"no expert can be called {expert}: rename it"):
        Layerwise(candidates(expert), components=False)


@pytest.mark.parametrize("weight", [0.0, (0.0, 0.0)])
def test_an_average_of_nothing_has_no_weights(weight):
    assert candidates("one").weights(Source.operator("average", weight=weight)) is None


def test_a_reward_without_a_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown reward ''.*dynamic_average"):
        rewards.make(**{"horizon": 3})
