"""Walk and Layerwise: decisions in their ranges, and the recipes that they spell."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_gym import spaces
from merge_gym.recipe import Layer, Recipe, Source, whole
from merge_gym.settings import Range
from merge_gym.spaces.candidates import Candidates, Family
from merge_gym.spaces.dataflow import Dataflow
from merge_gym.spaces.depthwise import Depthwise
from merge_gym.spaces.dis_paper import DisPaper
from merge_gym.spaces.layerwise import MIX, SCALES, Layerwise
from merge_gym.spaces.lfs_paper import LfsPaper
from merge_gym.spaces.parameter import Parameter
from merge_gym.spaces.space import choice, move, number, shifted
from merge_gym.spaces.walk import SKIP, Walk

AVERAGE = Source.operator("average", weight=1.0)
TIES = Source.operator("ties", density=0.5, weight=1.0)
SOURCES = {
    "low": Source.expert("low"),
    "high": Source.expert("high"),
    "average": AVERAGE,
    "ties": TIES,
    "sum": Source.operator("task_arithmetic", weight=(0.5, 1.0)),
}
FULL = Family(components=True, norm=True, scales=True)


def candidates(segments=None, family=FULL):
    given = {"encoder": 4, "decoder": 2} if segments is None else segments
    return Candidates(
        "tiny", "0" * 16, given, list(SOURCES.values()), list(SOURCES), whole(AVERAGE), family
    )


SPACES = {
    "walk": Walk(candidates()),
    "layerwise": Layerwise(candidates()),
    "coarse": Layerwise(candidates(), groups=2, components=False, scales=True),
    "mixes of layers": Layerwise(candidates(), take=False, shared=False, largest=0.4),
    "small mixes": Layerwise(candidates(), groups=1, largest=0.1, skip=False),
    "no norm, no scales": Layerwise(candidates(family=Family()), components=False),
    "depthwise": Depthwise(candidates()),
    "filled slots": Depthwise(candidates(), most=3, fill="ties", scales=False),
    "lfs_paper": LfsPaper(candidates()),
    "lfs_paper in one": LfsPaper(candidates(family=Family()), components=False, groups=1),
    "dis_paper": DisPaper(candidates()),
    "parameter": Parameter(candidates()),
    "parameter without norm": Parameter(candidates(family=Family()), largest=1.0),
    "dataflow": Dataflow(candidates()),
}
PATHS = {"dataflow"}  # an indicator tells by its sign only, and layers stand anywhere
any_space = st.sampled_from(list(SPACES.values()))
layer_by_layer = {name: space for name, space in SPACES.items() if name not in PATHS}
any_names = st.lists(st.integers(0, 10**6), max_size=5)


def in_range(space, decisions):
    """Checked by hand, not by `check`."""
    assert decisions.keys() == space.decisions.keys()
    for name, value in decisions.items():
        setting = space.decisions[name]
        if setting.kind == "choice":
            assert value in setting.choices
        elif setting.kind == "flag":
            assert isinstance(value, bool)
        else:
            assert setting.range.low <= value <= setting.range.high
            assert isinstance(value, float)
    return True


def pick(space, numbers):
    names = list(space.decisions)
    return [names[number % len(names)] for number in numbers]


def kinds(space, names, kind):
    return [name for name in names if space.decisions[name].kind == kind]


@given(any_space, st.integers(0, 2**32), any_names, st.floats(0, 3))
def test_whatever_is_drawn_or_changed_stays_in_range_and_spells_a_recipe(
    space, seed, numbers, step
):
    generator = np.random.default_rng(seed)
    drawn = space.sample(generator)
    names = pick(space, numbers)
    mutated = space.mutate(drawn, names, step, generator)
    shifted = space.shift(mutated, kinds(space, names, "number"), step, generator)
    edited = dict(shifted)
    for edits in space.edits().values():
        edited |= edits[int(generator.integers(len(edits)))]
    for decisions in (drawn, mutated, shifted, edited):
        assert in_range(space, decisions)
        checked = space.check(decisions)
        assert checked == decisions
        recipe = space.recipe(checked)
        space.candidates.check(recipe)
        assert Recipe.from_json(recipe.to_json()) == recipe
    for before, after in ((drawn, mutated), (mutated, shifted)):
        assert {name for name in before if before[name] != after[name]} <= set(names)


@given(any_space, st.integers(0, 2**32))
def test_a_generators_state_decides_what_is_drawn(space, seed):
    once, again = (space.sample(np.random.default_rng(seed)) for _ in range(2))
    assert once == again


@given(any_space, st.integers(0, 2**32))
def test_only_active_decisions_tell(space, seed):
    """Others can be drawn anew and the recipe is the same; blocks hold active ones only."""
    generator = np.random.default_rng(seed)
    decisions = space.sample(generator)
    active = space.active(decisions)
    other = space.sample(generator) | {name: decisions[name] for name in active}
    assert space.recipe(other) == space.recipe(decisions)
    assert space.numbers(decisions) == kinds(space, active, "number")
    for block in space.blocks(decisions):
        assert len(block) == len(set(block)) > 1
        assert set(block) <= set(space.numbers(decisions))


@given(st.sampled_from(list(layer_by_layer.values())), st.integers(0, 2**32), st.data())
def test_an_active_decision_changes_the_recipe(space, seed, data):
    generator = np.random.default_rng(seed)
    decisions = space.sample(generator)
    name = data.draw(st.sampled_from(space.active(decisions)))
    changed = space.mutate(decisions, [name], 0.1, generator)
    assert changed[name] != decisions[name]
    assert space.recipe(changed) != space.recipe(decisions)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_starts_are_valid_and_distinct(space):
    starts = space.starts()
    assert starts
    for decisions in starts.values():
        assert in_range(space, decisions)
        assert space.check(decisions) == decisions
    assert len({space.recipe(decisions) for decisions in starts.values()}) == len(starts)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_depth_follows_the_model_and_defaults_are_valid(space):
    assert space.depth.keys() == space.decisions.keys()
    assert all(0 <= depth <= 1 for depth in space.depth.values())
    assert in_range(space, {name: setting.default for name, setting in space.decisions.items()})


@pytest.mark.parametrize("space", layer_by_layer.values(), ids=layer_by_layer)
def test_recipes_that_differ_late_share_their_prefix(space):
    """A decision changes no layer that begins earlier than its depth says."""
    generator = np.random.default_rng(0)
    decisions = space.sample(generator)
    before = layers_of(space, decisions)
    for name in space.active(decisions):
        changed = space.mutate(decisions, [name], 0.1, generator)
        first = int(np.ceil(space.depth[name] * len(before) - 1e-9))
        if name.startswith(("shared/norm", "norm/")):
            first = len(before)
        assert layers_of(space, changed)[:first] == before[:first]


def layers_of(space, decisions):
    """What stands at each layer of the unmerged model, in order."""
    recipe, sizes = space.recipe(decisions), space.candidates.segments
    return [
        [layer for layer in layers if layer.index == index]
        for segment, layers in recipe.segments
        for index in range(sizes[segment])
    ]


def test_decisions_that_are_missing_unknown_or_out_of_range_are_refused():
    space = SPACES["coarse"]
    decisions = next(iter(space.starts().values()))
    name = next(iter(space.decisions))
    with pytest.raises(ValueError, match=f"decisions lack {name}"):
        space.check({key: value for key, value in decisions.items() if key != name})
    with pytest.raises(ValueError, match="unknown decision 'layer'"):
        space.check(decisions | {"layer": 1})
    with pytest.raises(ValueError, match=r"decision: .* is a finite number from 0 to 1\.5, got 2"):
        space.check(decisions | {"shared/stem:low": 2})
    with pytest.raises(ValueError, match=r"'mix' or 'low' or .*, got 'lowest'"):
        space.check(decisions | {"shared/stem:take": "lowest"})


def test_a_walk_takes_candidates_and_skips():
    space = SPACES["walk"]
    assert list(space.decisions) == [
        *(f"encoder.{index}" for index in range(4)), "decoder.0", "decoder.1"
    ]  # fmt: skip
    decisions = dict.fromkeys(space.decisions, SKIP) | {"encoder.2": "ties", "decoder.1": "low"}
    assert space.recipe(decisions) == Recipe(
        "0" * 16,
        whole(AVERAGE),
        (("encoder", (Layer.of(2, TIES),)), ("decoder", (Layer.of(1, SOURCES["low"]),))),
    )
    assert space.recipe(space.starts()["ties"]) == space.candidates.repeated(TIES)


def test_a_layerwise_recipe_by_hand():
    space = Layerwise(candidates({"layers": 2}), scales=True)
    decisions = space.starts()["low"] | {
        "shared/norm:take": "high",
        "layers.1/attention:take": "ties",
        "layers.1/mlp:low": 0.25,
        "layers.1/mlp:high": 0.75,
        "layers.1:scale": 0.5,
    }
    only_low = Source.operator("task_arithmetic", weight=(1.0, 0.0))
    mixed = Source.operator("task_arithmetic", weight=(0.25, 0.75))
    kinds = ("attention", "mlp", "rest")
    layers = (
        Layer(0, tuple((kind, only_low) for kind in kinds)),
        Layer(1, tuple(zip(kinds, (TIES, mixed, only_low), strict=True)), scale=0.5),
    )
    shared = (("stem", only_low), ("norm", SOURCES["high"]))
    assert space.recipe(space.check(decisions)) == Recipe("0" * 16, shared, (("layers", layers),))
    assert space.decisions["layers.0:scale"].range == Range(*SCALES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_start_is_its_candidate(name):
    """As task arithmetic where it is one, else taken."""
    decisions = SPACES["coarse"].starts()[name]
    takes = {value for key, value in decisions.items() if key.endswith(":take")}
    assert takes == {name if name == "ties" else MIX}
    weights = {"low": (1, 0), "high": (0, 1), "average": (0.5, 0.5), "sum": (0.5, 1)}
    low, high = weights.get(name, (0.5, 0.5))
    assert {value for key, value in decisions.items() if key.endswith(":low")} == {low}
    assert {value for key, value in decisions.items() if key.endswith(":high")} == {high}


def test_starts_score_as_the_candidates_do(bank, evaluator):
    """On a suite: every start of layers and all that is shared is the uniform merge."""
    made = spaces.make("layerwise", bank.candidates)
    for name, decisions in made.starts().items():
        recipe = made.recipe(made.check(decisions))
        assert evaluator.score(recipe) == evaluator.score(bank.uniform(name))
    walk = spaces.make("walk", bank.candidates)
    for name, decisions in walk.starts().items():
        repeated = bank.candidates.repeated(bank.candidates.source(name))
        assert walk.recipe(decisions) == repeated


def test_mixes_that_may_not_be_as_large_as_the_average_still_start_somewhere():
    space = Layerwise(candidates(), take=False, largest=0.1)
    assert list(space.starts()) == [MIX]
    taken = Layerwise(candidates(), largest=0.1).starts()
    assert list(taken) == list(SOURCES)
    assert taken["average"]["shared/stem:take"] == "average"


@pytest.mark.parametrize(
    ("sizes", "groups", "choices"),
    [((4,), 3, "1, 2, 4"), ((4,), 8, "1, 2, 4"), ((4, 2), 4, "1, 2"), ((2, 3), 2, "1, 3")],
)
def test_groups_that_do_not_divide_are_refused_with_those_that_do(sizes, groups, choices):
    segments = {f"segment{place}": size for place, size in enumerate(sizes)}
    with pytest.raises(ValueError, match=rf"{groups} groups do not .*: choose {choices}, or none"):
        Layerwise(candidates(segments), groups=groups)


def test_a_family_without_components_or_scales_is_refused_what_it_lacks():
    plain = candidates(family=Family())
    with pytest.raises(ValueError, match="set components=false"):
        Layerwise(plain)
    with pytest.raises(ValueError, match="set scales=false"):
        Layerwise(plain, components=False, scales=True)
    Layerwise(plain, components=False)


def test_settings_are_checked_where_a_space_is_made_by_name():
    assert set(spaces.available()) >= {
        "walk", "layerwise", "depthwise", "lfs_paper", "dis_paper", "parameter", "dataflow"
    }  # fmt: skip
    made = spaces.make("layerwise", candidates(), groups=2, largest=1)
    assert (made.groups, made.largest) == (2, 1.0)
    with pytest.raises(ValueError, match="unknown space 'layers'"):
        spaces.make("layers", candidates())
    with pytest.raises(ValueError, match="setting of space 'layerwise': groups is a whole number"):
        spaces.make("layerwise", candidates(), groups=0)
    with pytest.raises(ValueError, match="unknown setting of space 'walk' 'groups'"):
        spaces.make("walk", candidates(), groups=2)


def test_a_space_says_what_tells_it_from_another():
    described = [json.dumps(space.describe()) for space in SPACES.values()]
    assert len(set(described)) == len(SPACES)
    assert json.dumps(Layerwise(candidates()).describe()) == described[1]
    other = candidates()
    other.digest = "1" * 16
    assert Walk(other).describe() != SPACES["walk"].describe()
    other = candidates()
    changed = dataclasses.replace(TIES, parameters=(("density", 0.3), ("weight", 1.0)))
    other.sources = tuple(changed if source == TIES else source for source in other.sources)
    assert Walk(other).describe() != SPACES["walk"].describe()
    assert Layerwise(other).describe() != SPACES["layerwise"].describe()


@given(st.floats(0, 1.5), st.floats(-10, 10))
def test_a_shifted_number_is_reflected_into_its_range(value, by):
    setting = number("λ", 0.0, 1.5, 1.0)
    assert 0 <= shifted(setting, value, by) <= 1.5


def test_a_small_shift_is_a_share_of_the_range():
    setting = number("λ", 1.0, 3.0, 1.0)
    assert shifted(setting, 2.0, 0.25) == 2.5
    assert shifted(setting, 2.9, 0.25) == pytest.approx(2.6)
    assert shifted(setting, 1.1, -0.25) == pytest.approx(1.4)


def test_a_choice_moves_to_another_word_if_there_is_one():
    generator = np.random.default_rng(0)
    words = {move(choice("c", ("a", "b", "c")), "a", 0.1, generator) for _ in range(30)}
    assert words == {"b", "c"}
    assert move(choice("c", ("a",)), "a", 0.1, generator) == "a"


def test_a_shift_moves_numbers_together():
    space = SPACES["layerwise"]
    decisions = space.starts()["average"]
    names = ["encoder.0/mlp:low", "encoder.1/mlp:low"]
    shift = space.shift(decisions, names, 0.1, np.random.default_rng(0))
    assert shift[names[0]] == shift[names[1]] != decisions[names[0]]
    assert {name for name in shift if shift[name] != decisions[name]} == set(names)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_edits_of_different_places_go_together(space):
    """No decision stands in two places, and those of one place differ in what they spell."""
    start = next(iter(space.starts().values()))
    seen = set()
    for edits in space.edits().values():
        names = {name for edit in edits for name in edit}
        assert names <= space.decisions.keys()
        assert not names & seen
        seen |= names
        assert len({space.recipe(start | edit) for edit in edits}) == len(edits)


def test_an_edit_puts_a_source_in_all_of_a_group_or_leaves_it_out():
    space = Layerwise(candidates({"layers": 4}), groups=2)
    edits = space.edits()
    assert list(edits) == ["layers.0-1", "layers.2-3", "shared/stem", "shared/norm"]
    ties, none = (edits["layers.2-3"][place] for place in (4, -1))
    start = space.starts()["high"]
    before = space.recipe(start).segments[0][1]
    left_out = start | none
    assert space.recipe(left_out).segments[0][1] == before[:2]
    (_, layers), *_ = space.recipe(left_out | ties).segments
    assert layers[:2] == before[:2]
    assert [(layer.index, layer.source) for layer in layers[2:]] == [(2, TIES), (3, TIES)]
    assert edits["shared/norm"][2] == {"shared/norm:take": "high"}
