"""The two spaces of evolutionary model merging: parameters and data flow."""

from __future__ import annotations

import pytest

from merge_gym.recipe import Layer, Source, whole
from merge_gym.spaces.candidates import Family
from merge_gym.spaces.dataflow import Dataflow
from merge_gym.spaces.parameter import Parameter
from tests.spaces.test_spaces import SOURCES, candidates

LOW, HIGH = SOURCES["low"], SOURCES["high"]


def merge(weight: tuple[float, float], density: tuple[float, float] = (1.0, 1.0)) -> Source:
    return Source.operator("dare_ties", weight=weight, density=density, consensus="sum")


def test_parameters_by_hand():
    space = Parameter(candidates({"layers": 2}))
    decisions = space.starts()["low"] | {
        "layers.1/weight:high": 0.5,
        "layers.1/density:low": 0.25,
        "norm/weight:low": 0.75,
    }
    recipe = space.recipe(space.check(decisions))
    layers = (Layer.of(0, merge((1.0, 0.0))), Layer.of(1, merge((1.0, 0.5), (0.25, 1.0))))
    assert recipe.segments == (("layers", layers),)
    assert recipe.shared == (("stem", merge((1.0, 0.0))), ("norm", merge((0.75, 0.0))))
    alone = Parameter(candidates({"layers": 1}, Family()))
    assert alone.recipe(alone.starts()["high"]).shared == whole(merge((0.0, 1.0)))


def test_parameters_start_at_every_sum_of_task_vectors():
    starts = Parameter(candidates({"layers": 1})).starts()
    weights = {
        name: (start["layers.0/weight:low"], start["layers.0/weight:high"])
        for name, start in starts.items()
    }
    assert weights == {"low": (1, 0), "high": (0, 1), "average": (0.5, 0.5), "sum": (0.5, 1)}
    assert "sum" not in Parameter(candidates(), largest=0.9).starts()


def test_parameters_at_an_expert_score_as_it_does(bank, evaluator):
    space = Parameter(bank.candidates)
    for name in bank.candidates.experts:
        recipe = space.recipe(space.starts()[name])
        assert evaluator.score(recipe) == evaluator.score(bank.uniform(name))


def test_a_path_by_hand():
    space = Dataflow(candidates({"layers": 4}), repetitions=2)
    decisions = space.starts()["high"] | {
        "layers.1/high/1": -0.1,
        "layers.2/high/1:scale": 0.5,
        "layers.1/low/2": 0.1,
        "layers.last:scale": 1.5,
        "layers.last": "low",
    }
    [(_, layers)] = space.recipe(space.check(decisions)).segments
    assert layers == (
        Layer.of(0, HIGH, stream=0.5),
        Layer.of(2, HIGH),
        Layer.of(1, LOW, stream=1.5),
        Layer.of(3, LOW),
    )
    active = space.active(decisions)
    assert "layers.2/high/1:scale" in active
    assert "layers.2/low/1:scale" not in active
    assert "layers.2/low/1" in active


def test_paths_start_at_every_expert_taken_once():
    space = Dataflow(candidates())
    for name, decisions in space.starts().items():
        assert space.recipe(decisions) == space.candidates.repeated(SOURCES[name])
    assert len(space.decisions) == 3 * 2 * 2 * (2 + 0) + 2 * (1 + 2)


def test_paths_keep_what_comes_before_the_change():
    """As far as a decision's depth says: the layers that are taken up to there stay."""
    space = Dataflow(candidates({"layers": 4}), repetitions=2)
    names = [name for name in space.decisions if not name.endswith(":scale")]
    decisions = space.starts()["low"] | dict.fromkeys(names[1:-1], 0.25)
    before = space.recipe(decisions).segments[0][1]
    changes = dict.fromkeys(names[1:-1], -0.25) | {"layers.last": "high"}
    scales = {f"{name}:scale": 0.5 for name in names[1:]}
    for name, value in {**changes, **scales}.items():
        after = space.recipe(decisions | {name: value}).segments[0][1]
        same = round(space.depth[name] * len(before))
        assert after[:same] == before[:same]
        assert after != before


def test_a_segment_of_one_layer_has_no_first_and_last():
    with pytest.raises(ValueError, match="the first and the last layer of 'layers', which has 1"):
        Dataflow(candidates({"layers": 1}))
