"""Laws that the operators obey for any values, tried on many by hypothesis.

Values are multiples of 1/8, so that sums are exact and a sign election cannot flip by rounding.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from merge_gym import operators
from tests.operators.worked import ISSUED, as_many, close, merge

NAMES = operators.available()
DRAWING = {name for name in NAMES if operators.get(name).draws}
WEIGHTED = [
    name
    for name in NAMES
    if (weight := operators.get(name).settings.get("weight")) and weight.per_expert
]
# The laws are those of the issued operators but these; who adds one to them says that they hold.
ABSOLUTE = {"slerp", "karcher"}  # angles between the values themselves, not between task vectors
UNITS = {"ram", "pcb"}  # an absolute threshold, and a tanh

EXPERT_COMES_BACK: dict[str, dict[str, Any]] = {
    "average": {},
    "balanced_task_arithmetic": {},
    "breadcrumbs": {"density": 1, "weight": 1},
    "consensus": {"agreement": 1, "weight": 1},
    "dare": {"density": 1},
    "dare_ties": {"density": 1},
    "della": {"density": 1},
    "emr": {},
    "fisher": {},
    "karcher": {},
    "magmax": {"weight": 1},
    "ram": {"epsilon": 0},
    "regmean": {},
    "sce": {},
    "task_arithmetic": {"weight": 1},
    "ties": {"density": 1},
    "tsv_m": {},
}
FIXED_POINT: dict[str, dict[str, Any]] = {
    "average": {},
    "balanced_task_arithmetic": {},
    "breadcrumbs": {"density": 1, "weight": 0.5},
    "consensus": {"weight": 0.5},
    "dare": {"density": 1, "weight": 0.5},
    "dare_ties": {"density": 1},
    "della": {"density": 1},
    "emr": {},
    "fisher": {},
    "karcher": {},
    "magmax": {"weight": 1},
    "model_stock": {},
    "nuslerp": {},
    "ram": {"epsilon": 0},
    "regmean": {},
    "sce": {},
    "slerp": {},
    "task_arithmetic": {"weight": 0.5},
    "ties": {"density": 1},
}

many = settings(max_examples=12, deadline=None)


@st.composite
def models(draw: st.DrawFn, experts: int, low: int = -16) -> tuple[Tensor, list[Tensor]]:
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    numbers = st.lists(st.integers(low, 16), min_size=rows * columns, max_size=rows * columns).map(
        lambda values: torch.tensor(values, dtype=torch.float64).reshape(rows, columns) / 8
    )
    return draw(numbers), [draw(numbers) for _ in range(experts)]


@pytest.mark.parametrize("name", sorted(ISSUED - DRAWING))
@given(data=st.data())
@many
def test_the_order_of_the_experts_does_not_matter(name, data):
    # Opposite values have no unique mean direction, so karcher gets values of one sign.
    low = 1 if name == "karcher" else -16
    count = operators.get(name).max_experts or 3
    pretrained, experts = data.draw(models(count, low))
    order = data.draw(st.permutations(experts))
    close(merge(name, pretrained, order), merge(name, pretrained, experts), 1e-7)


@pytest.mark.parametrize("name", sorted(ISSUED - ABSOLUTE))
@given(given_models=models(2), shift=st.integers(-16, 16))
@many
def test_a_constant_added_to_all_is_added_to_the_result(name, given_models, shift):
    pretrained, experts = given_models
    moved = merge(name, pretrained + shift, [expert + shift for expert in experts])
    close(moved - shift, merge(name, pretrained, experts), 1e-7)


@pytest.mark.parametrize("name", sorted(ISSUED - UNITS))
@given(given_models=models(2), scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]))
@many
def test_a_factor_on_all_is_a_factor_on_the_result(name, given_models, scale):
    pretrained, experts = given_models
    scaled = merge(name, pretrained * scale, [expert * scale for expert in experts])
    close(scaled / scale, merge(name, pretrained, experts), 1e-7)


@pytest.mark.parametrize("name", EXPERT_COMES_BACK)
@given(given_models=models(1))
@many
def test_a_single_expert_comes_back(name, given_models):
    pretrained, experts = given_models
    result = merge(name, pretrained, experts, **EXPERT_COMES_BACK[name])
    close(result, experts[0], 1e-7)


@pytest.mark.parametrize("name", FIXED_POINT)
@given(given_models=models(1))
@many
def test_identical_experts_come_back(name, given_models):
    pretrained, experts = given_models
    result = merge(name, pretrained, experts * 2, **FIXED_POINT[name])
    close(result, experts[0], 1e-7)


@pytest.mark.parametrize("name", WEIGHTED)
@given(data=st.data(), weight=st.sampled_from([0.25, 0.5, 1.0]))
@many
def test_one_weight_means_the_same_as_that_weight_for_every_expert(name, data, weight):
    count = as_many(name, 2)
    pretrained, experts = data.draw(models(count))
    close(
        merge(name, pretrained, experts, weight=weight),
        merge(name, pretrained, experts, weight=[weight] * count),
    )
