"""Depth-wise decisions: what stands in a slot, how loud, and how deep a recipe may be."""

from __future__ import annotations

import pytest

from merge_gym import spaces
from merge_gym.recipe import Layer, Recipe, whole
from merge_gym.spaces.candidates import Family
from merge_gym.spaces.depthwise import NOTHING, Depthwise
from merge_gym.spaces.walk import SKIP
from tests.spaces.test_spaces import AVERAGE, SOURCES, TIES, candidates

LOW, HIGH = SOURCES["low"], SOURCES["high"]


def test_a_recipe_by_hand():
    space = Depthwise(candidates({"layers": 3}))
    decisions = space.starts()["low"] | {
        "layers.0:2": "ties",
        "layers.0:scale": 0.5,
        "layers.1": SKIP,
        "layers.1:2": "high",  # after nothing comes nothing
        "layers.2": "high",
    }
    layers = (Layer.of(0, LOW, 0.5), Layer.of(0, TIES, 0.5), Layer.of(2, HIGH))
    expected = Recipe("0" * 16, whole(AVERAGE), (("layers", layers),))
    assert space.recipe(space.check(decisions)) == expected
    active = space.active(decisions)
    assert "layers.1:2" not in active
    assert "layers.1:scale" not in active
    assert {"layers.0:2", "layers.1", "layers.2:2", "layers.0:scale"} <= set(active)


def test_an_empty_slot_is_filled_and_what_fills_stands_alone():
    space = Depthwise(candidates({"layers": 2}), fill="ties")
    decisions = space.starts()["low"] | {"layers.1": "ties", "layers.1:2": "low"}
    [(_, layers)] = space.recipe(space.check(decisions)).segments
    assert layers == (Layer.of(0, LOW), Layer.of(1, TIES))
    assert "ties" not in space.decisions["layers.0:2"].choices
    assert SKIP not in space.decisions["layers.0"].choices
    with pytest.raises(ValueError, match="unknown candidate 'tie'"):
        Depthwise(candidates(), fill="tie")


def test_recipes_that_are_too_deep_are_invalid():
    space = Depthwise(candidates({"layers": 4}))
    start = space.starts()["ties"]
    assert space.valid(start | {"layers.0:2": "low", "layers.1:2": "low"})
    three = {f"layers.{index}:2": "low" for index in range(3)}
    assert not space.valid(start | three)
    assert space.valid(start | three | {"layers.3": SKIP})
    shallow = Depthwise(candidates({"layers": 4}), max_depth=3)
    assert not shallow.valid(start)
    assert shallow.valid(start | {"layers.0": SKIP})


def test_starts_are_every_candidate_throughout():
    space = Depthwise(candidates())
    for name, decisions in space.starts().items():
        assert space.recipe(decisions) == space.candidates.repeated(SOURCES[name])


def test_edits_stand_alone_or_come_after():
    space = Depthwise(candidates({"layers": 2}))
    start = space.starts()["ties"] | {"layers.0:2": "low"}
    edits = space.edits()["layers.0"]
    spelt = [
        [layer.source for layer in space.recipe(start | edit).segments[0][1] if layer.index == 0]
        for edit in edits
    ]
    alone = [[source] for source in SOURCES.values()]
    assert all(each in spelt for each in [*alone, [], [TIES, HIGH]])
    assert {"layers.0": SKIP, "layers.0:2": NOTHING} in edits


def test_blocks_are_runs_of_scales_that_tell():
    space = Depthwise(candidates({"layers": 3}))
    start = space.starts()["low"]
    assert len(space.blocks(start)) == 3
    assert space.blocks(start | {"layers.1": SKIP}) == [["layers.0:scale", "layers.2:scale"]]
    assert Depthwise(candidates({"layers": 3}), scales=False).blocks(start) == []


@pytest.mark.parametrize("name", ["depthwise", "dis_paper", "dataflow"])
def test_a_family_without_scales_is_refused_in_one_line(name):
    plain = candidates(family=Family())
    with pytest.raises(ValueError, match="has no scales: set scales=false"):
        spaces.make(name, plain)
    made = spaces.make(name, plain, scales=False)
    assert not [of for of in made.decisions if of.endswith(":scale")]
