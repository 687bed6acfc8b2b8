"""Layer-wise fusion as published."""

from __future__ import annotations

import math

import pytest

from merge_gym.recipe import Source
from merge_gym.spaces.candidates import Candidates, Family
from merge_gym.spaces.lfs_paper import LfsPaper
from tests.spaces.test_spaces import FULL, candidates


def three_experts(layers: int) -> Candidates:
    sources = [Source.expert(name) for name in "abc"]
    return Candidates("llama", "0", {"layers": layers}, sources, "abc", (), FULL)


def test_the_published_experiment_has_as_many_decisions():
    """40 layers in four groups of ten, three experts: 112 dimensions."""
    space = LfsPaper(three_experts(40))
    assert len(space.decisions) == 112
    decisions = space.starts()["a"] | {"layers.1": "ties"}
    [(_, layers)] = space.recipe(decisions).segments
    operators = [layer.sources[0].name for layer in layers]
    assert operators == ["average"] * 10 + ["ties"] * 10 + ["average"] * 20


@pytest.mark.parametrize(
    ("layers", "lengths"), [(6, [2, 1, 2, 1]), (3, [1, 1, 1]), (7, [2, 2, 2, 1])]
)
def test_any_number_of_layers_is_dealt_into_groups(layers, lengths):
    space = LfsPaper(three_experts(layers))
    groups = list(space._group_of.values())
    assert [groups.count(group) for group in dict.fromkeys(groups)] == lengths


def test_a_recipe_by_hand():
    space = LfsPaper(candidates({"layers": 4}))
    decisions = space.starts()["low"] | {
        "layers.0/linear/high:mlp": 0.25,
        "layers.1": "task_arithmetic",
        "layers.1/task_arithmetic/λ:attention": 0.5,
        "layers.2": "ties",
        "layers.2/ties/mask:rest": 0.75,
        "layers.2/ties/λ:rest": 0.5,
        "layers.3": "slerp",
        "layers.3/slerp/high:mlp": 1.0,
    }
    recipe = space.recipe(space.check(decisions))
    parts = [dict(layer.parts) for layer in recipe.segments[0][1]]
    make = Source.operator
    assert parts[0]["attention"] == make("average", weight=(1.0, 0.0))
    assert parts[0]["mlp"] == make("average", weight=(0.8, 0.2))
    assert parts[1]["attention"] == make("task_arithmetic", weight=0.5)
    assert parts[2]["rest"] == make("ties", density=0.25, weight=0.5, scope="tensor")
    assert parts[3]["mlp"].parameters == (("t", pytest.approx(math.e / (math.e + 1))),)
    assert parts[3]["rest"] == make("slerp", t=0.5)
    assert recipe.shared == (("stem", parts[0]["rest"]), ("norm", parts[3]["rest"]))


def test_slerp_merges_the_two_experts_with_the_greatest_scores():
    space = LfsPaper(three_experts(1))
    decisions = space.starts()["a"] | {
        "layers.0": "slerp",
        "layers.0/slerp/a:mlp": 0.2,
        "layers.0/slerp/b:rest": 0.1,
        "layers.0/slerp/c:mlp": 0.9,
    }
    [(_, [layer])] = space.recipe(decisions).segments
    assert {source.experts for source in layer.sources} == {("a", "c")}
    share = math.exp(0.9) / (math.exp(0.2) + math.exp(0.9))
    assert dict(layer.parts)["mlp"].parameters == (("t", pytest.approx(share)),)


def test_weights_that_are_all_zero_are_even():
    space = LfsPaper(candidates({"layers": 1}), components=False)
    decisions = space.starts()["low"] | {"layers.0/linear/low:*": 0.0}
    [(_, [layer])] = space.recipe(space.check(decisions)).segments
    assert layer.source == Source.operator("average", weight=(0.5, 0.5))


def test_starts_are_the_experts(bank, evaluator):
    space = LfsPaper(bank.candidates)
    for name, decisions in space.starts().items():
        recipe = space.recipe(space.check(decisions))
        assert evaluator.score(recipe) == evaluator.score(bank.uniform(name))


def test_what_cannot_be_merged_so_is_refused():
    with pytest.raises(ValueError, match="set components=false"):
        LfsPaper(candidates(family=Family()))
    alone = Candidates("one", "0", {"layers": 2}, [Source.expert("a")], "a", (), FULL)
    with pytest.raises(ValueError, match="at least two experts"):
        LfsPaper(alone)
