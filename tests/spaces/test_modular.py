"""The modular space: what groupings spell, and what a library takes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from merge_gym import LayerBank, Library, ReferenceEvaluator, Suite, spaces
from merge_gym.recipe import Source
from merge_gym.spaces.modular import Modular, canonical, growth_strings

OPERATORS = ["average", {"name": "task_arithmetic", "weight": 0.4}]


@pytest.fixture(scope="module")
def modular_bank(suite: Suite) -> LayerBank:
    return LayerBank(suite, OPERATORS, shared="average")


@pytest.fixture(scope="module")
def space(modular_bank: LayerBank) -> Modular:
    made = spaces.make("modular", modular_bank.candidates)
    assert isinstance(made, Modular)
    return made


def test_every_grouping_has_one_name() -> None:
    assert [len(list(growth_strings(count))) for count in (1, 2, 3, 4)] == [1, 2, 5, 15]
    assert next(iter(growth_strings(3))) == "000"
    assert list(growth_strings(3))[-1] == "012"
    assert canonical([2, 0, 2, 1]) == "0102"


def test_experts_apart_are_the_experts_and_one_group_is_the_uniform_merge(
    space: Modular, modular_bank: LayerBank
) -> None:
    starts = space.starts()
    apart = space.recipe(starts["experts"])
    assert dict(apart.recipes) == {name: modular_bank.uniform(name) for name in ("low", "high")}
    merged = space.recipe(starts["average"])
    assert {recipe for _, recipe in merged.recipes} == {modular_bank.uniform("average")}


def test_decisions_that_do_not_tell_leave_the_library_as_it_is(space: Modular) -> None:
    apart = space.starts()["experts"]
    name = next(iter(space.places))
    changed = apart | {f"{name}:method-0": space.methods[1], f"{name}:residual": "sign"}
    assert space.recipe(changed) == space.recipe(apart)
    assert f"{name}:residual" not in space.active(apart)


def test_a_library_survives_json(space: Modular) -> None:
    for seed in range(5):
        library = space.recipe(space.sample(np.random.default_rng(seed)))
        assert Library.from_json(library.to_json()) == library


def test_storage_counts_each_module_once(space: Modular) -> None:
    starts = space.starts()
    assert space.storage(starts["average"]) == 1
    assert space.storage(starts["experts"]) == 2
    name = "layers.1/attention"
    one = starts["average"] | {f"{name}:groups": "01"}
    shapes = space.candidates.shapes
    total = sum(math.prod(shape) for tensors in shapes.values() for shape in tensors)
    share = sum(map(math.prod, shapes[space.places[name]])) / total
    assert space.storage(one) == pytest.approx(1 + share)


def test_a_residual_of_a_residual_or_of_nobody_is_refused(
    space: Modular, modular_bank: LayerBank
) -> None:
    library = space.recipe(space.everywhere("00", "average", "sign"))
    recipe = library.recipe("low")
    bad = Source.residual("nobody", Source.operator("average"))
    with pytest.raises(ValueError, match="unknown expert 'nobody'"):
        modular_bank.resolve(modular_bank.candidates.uniform(bad))
    assert modular_bank.resolve(recipe).suite == modular_bank.suite.digest


def test_a_library_of_other_tasks_is_refused(space: Modular, evaluator: ReferenceEvaluator) -> None:
    library = space.recipe(space.starts()["experts"])
    with pytest.raises(ValueError, match="the library has recipes for low, the tasks here are"):
        evaluator.score(Library(library.recipes[:1]))


def test_one_weight_for_each_expert_is_refused(suite: Suite) -> None:
    tuned = [{"name": "task_arithmetic", "weight": [0.3, 0.4]}]
    with pytest.raises(ValueError, match="give its operators one weight"):
        spaces.make("modular", LayerBank(suite, tuned).candidates)
