"""Depth-wise integration as published."""

from __future__ import annotations

import numpy as np
import pytest

from merge_gym import spaces
from merge_gym.recipe import Layer, Source
from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.dis_paper import DisPaper
from merge_gym.studies.selection import rank
from merge_gym.studies.study import Study
from tests.spaces.test_spaces import FULL, SOURCES, candidates

LOW, HIGH = SOURCES["low"], SOURCES["high"]
PRETRAINED = Source.operator("task_arithmetic", weight=0.0)


def test_a_recipe_by_hand():
    space = DisPaper(candidates({"layers": 3}))
    decisions = space.starts()["low"] | {
        "layers.0/high": True,
        "layers.0:order": "high>low",
        "layers.0:scale": 0.5,
        "layers.1/low": False,
        "layers.1:scale": 1.5,
    }
    [(_, layers)] = space.recipe(space.check(decisions)).segments
    assert layers == (
        Layer.of(0, HIGH),
        Layer.of(0, LOW, stream=0.5),  # of the last in a slot
        Layer.of(1, PRETRAINED, stream=1.5),
        Layer.of(2, LOW),
    )
    assert "layers.0:order" in space.active(decisions)
    assert "layers.1:order" not in space.active(decisions)


def test_the_published_experiment_has_as_many_decisions():
    """40 layers, three experts: three bits, one of six orders and a factor for each."""
    sources = [Source.expert(name) for name in "abc"]
    model = Candidates("llama", "0", {"layers": 40}, sources, "abc", (), FULL)
    space = DisPaper(model)
    assert len(space.decisions) == 40 * 5
    assert len(space.decisions["layers.0:order"].choices) == 6
    both = {f"layers.{index}/b": True for index in range(11)}
    start = space.starts()["a"]
    assert space.valid(start | dict(list(both.items())[:10]))  # 50 layers
    assert not space.valid(start | both)


def test_what_is_too_deep_counts_as_0_is_not_scored_and_costs_nothing(bank, counting):
    space = spaces.make("dis_paper", bank.candidates)
    study = Study(space, counting)
    start = space.starts()["low"]
    deep = start | {f"layers.{index}/high": True for index in range(3)}
    scored, unscored, also = study.evaluate_all([start, deep, space.starts()["high"]])
    assert counting.asked == 2
    assert (unscored.mean, unscored.charged, unscored.valid) == (0.0, 0, False)
    assert unscored.decisions == deep
    assert study.spent == 2 * study.full_cost
    assert unscored.outcome.values.keys() == scored.outcome.values.keys()
    for task, values in unscored.outcome.values.items():
        assert np.array_equal(values, np.zeros_like(scored.outcome.values[task]))
    [part] = study.evaluate_all([deep], (0,))
    assert part.subsets == (0,)
    assert study.best() in (scored, also)
    assert {candidate.recipe for candidate in rank(study.trials)} == {scored.recipe, also.recipe}


def test_a_study_of_nothing_but_unscored_recipes_has_no_best(bank, counting):
    space = spaces.make("dis_paper", bank.candidates)
    study = Study(space, counting)
    study.evaluate(space.starts()["low"] | {f"layers.{index}/high": True for index in range(3)})
    with pytest.raises(ValueError, match="none of 1 trials was scored"):
        study.best()


def test_orders_of_many_experts_are_refused():
    names = [f"expert {number}" for number in range(7)]
    sources = [Source.expert(name) for name in names]
    many = Candidates("many", "0", {"layers": 2}, sources, names, (), FULL)
    with pytest.raises(ValueError, match="at most 6, the suite has 7: search space=depthwise"):
        DisPaper(many)
