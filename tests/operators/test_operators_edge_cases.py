"""Every operator on inputs at the edge: a defined result or one clear error, whatever it is."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from merge_gym import operators
from tests.operators import worked
from tests.operators.worked import as_many, close, random_models

NAMES = operators.available()
TAKES_PAIRS = [name for name in NAMES if as_many(name, 1) == 1 and as_many(name, 2) == 2]
DRAWING = [name for name in NAMES if operators.get(name).draws]
WITH_DENSITY = [name for name in NAMES if "density" in operators.get(name).settings]
SHAPES = [(), (1,), (7,), (1, 1), (4, 6), (6, 4), (1, 5), (5, 1), (2, 3, 2, 2)]


def settings_that_do_something(name: str) -> dict[str, Any]:
    """Settings under which the result differs from the pretrained values on small tensors."""
    return {"density": 0.6} if name in WITH_DENSITY else {}


def merge(name: str, pretrained: Tensor, experts: list[Tensor], **more: Any) -> Tensor:
    """As many of the experts merged as the operator takes, some twice if it takes more."""
    count = as_many(name, len(experts))
    experts = (experts * count)[:count]
    return worked.merge(name, pretrained, experts, **{**settings_that_do_something(name), **more})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shape_is_preserved_and_values_are_finite(name, shape):
    pretrained, experts = random_models(shape)
    result = merge(name, pretrained, experts)
    assert result.shape == pretrained.shape
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtype_is_preserved_and_half_precision_is_computed_in_float32(name, dtype):
    pretrained, experts = random_models((6, 8), dtype=dtype)
    result = merge(name, pretrained, experts)
    assert result.dtype == dtype
    if dtype != torch.float64:
        exact = merge(name, pretrained.float(), [expert.float() for expert in experts])
        assert torch.equal(result, exact.to(dtype))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_inputs_are_neither_changed_nor_handed_back(name, dtype):
    pretrained, experts = random_models((5, 4), dtype=dtype)
    for count in (1, 2):
        given = [pretrained, *experts[:count]]
        before = [value.clone() for value in given]
        result = merge(name, pretrained, experts[:count])
        assert all(torch.equal(*pair) for pair in zip(given, before, strict=True))
        assert all(result.data_ptr() != value.data_ptr() for value in given)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_that_require_gradients_are_merged_without_a_graph(name):
    pretrained, experts = random_models((5, 4))
    parameters = [torch.nn.Parameter(expert) for expert in experts]
    result = merge(name, torch.nn.Parameter(pretrained), parameters)
    assert not result.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_non_contiguous_inputs_give_the_same(name):
    pretrained, experts = random_models((6, 8))
    strided = [value.T.contiguous().T for value in (pretrained, *experts)]
    assert not strided[0].is_contiguous()
    close(merge(name, strided[0], strided[1:]), merge(name, pretrained, experts), 1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_experts_that_never_moved_give_the_pretrained_values(name, shape):
    pretrained, _ = random_models(shape)
    result = merge(name, pretrained, [pretrained.clone(), pretrained.clone()])
    close(result, pretrained, 1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (3,), (3, 4)], ids=str)
def test_zeros_give_zeros(name, shape):
    zeros = torch.zeros(shape)
    assert torch.equal(merge(name, zeros, [zeros.clone(), zeros.clone()]), zeros)


@pytest.mark.parametrize("name", NAMES)
def test_one_expert_that_never_moved_does_no_harm(name):
    pretrained, experts = random_models((4, 6))
    for order in ([pretrained.clone(), experts[0]], [experts[0], pretrained.clone()]):
        assert torch.isfinite(merge(name, pretrained, order)).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_magnitudes_everywhere_are_no_trouble(name):
    pretrained, ones = torch.zeros(4, 4), torch.ones(4, 4)
    assert torch.isfinite(merge(name, pretrained, [ones, -ones])).all()
    assert torch.isfinite(merge(name, pretrained, [ones, ones])).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("experts", [1, 2, 3, 5])
def test_any_number_of_experts_gives_a_result_or_one_clear_error(name, experts):
    pretrained, given = random_models((4, 6), experts=experts)
    settings = settings_that_do_something(name)
    if as_many(name, experts) == experts:
        assert torch.isfinite(worked.merge(name, pretrained, given, **settings)).all()
    else:
        with pytest.raises(ValueError, match=rf"'{name}' merges .* {experts} w(as|ere) given"):
            worked.merge(name, pretrained, given, **settings)


@pytest.mark.parametrize("name", sorted(set(WITH_DENSITY) - {"sce"}))
@pytest.mark.parametrize("shape", [(), (1,), (9,), (4, 6)], ids=str)
def test_density_zero_keeps_the_pretrained_values(name, shape):
    pretrained, experts = random_models(shape)
    close(merge(name, pretrained, experts, density=0), pretrained, 1e-7)


@pytest.mark.parametrize("name", WITH_DENSITY)
@pytest.mark.parametrize("shape", [(), (1,), (9,), (4, 6)], ids=str)
@pytest.mark.parametrize("density", [0, 1e-9, 1])
def test_extreme_densities_are_finite(name, shape, density):
    pretrained, experts = random_models(shape)
    result = merge(name, pretrained, experts, density=density)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("name", ["ties", "breadcrumbs"])
def test_a_positive_density_keeps_at_least_one_entry(name):
    pretrained, experts = random_models((3,))
    assert not torch.equal(worked.merge(name, pretrained, experts, density=0.01), pretrained)


@pytest.mark.parametrize("name", DRAWING)
def test_the_same_generator_state_gives_the_same_bits(name):
    pretrained, experts = random_models((20, 20))
    runs = [
        merge(name, pretrained, experts, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    ]
    assert torch.equal(*runs)
    assert torch.equal(runs[0], merge(name, pretrained, experts, seed=5))
    assert not torch.equal(runs[0], merge(name, pretrained, experts, seed=6))


@pytest.mark.parametrize("name", DRAWING)
def test_without_a_generator_the_draw_is_that_of_seed_zero(name):
    pretrained, experts = random_models((20, 20))
    wanted = merge(name, pretrained, experts, seed=0)
    assert torch.equal(merge(name, pretrained, experts), wanted)
    experts = (experts * as_many(name, 2))[: as_many(name, 2)]
    bare = operators.get(name).function(pretrained, experts, **settings_that_do_something(name))
    assert torch.equal(bare, wanted)


@pytest.mark.parametrize("name", DRAWING)
def test_one_generator_runs_on_through_several_calls(name):
    pretrained, experts = random_models((20, 20))
    stream = torch.Generator().manual_seed(5)
    first, second = (merge(name, pretrained, experts, generator=stream) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", sorted({*DRAWING} & {*WITH_DENSITY} & {*TAKES_PAIRS}))
def test_experts_are_thinned_differently(name):
    ones = torch.ones(200)
    result = worked.merge(name, torch.zeros(200), [ones, ones], density=0.5)
    alone = worked.merge(name, torch.zeros(200), [ones], density=0.5)
    assert not torch.equal(result != 0, alone != 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_global_random_state_is_left_alone(name):
    pretrained, experts = random_models((4, 6))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    merge(name, pretrained, experts)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_repeated_calls_give_the_same_bits(name):
    pretrained, experts = random_models((12, 9), experts=2)
    assert torch.equal(merge(name, pretrained, experts), merge(name, pretrained, experts))


@pytest.mark.parametrize("name", NAMES)
def test_the_default_settings_change_something(name):
    """A default under which an operator does nothing is a mistake."""
    pretrained, experts = random_models((40, 50), experts=as_many(name, 2))
    experts = [pretrained + (expert + experts[0] - 2 * pretrained) / 2 for expert in experts]
    assert not torch.equal(worked.merge(name, pretrained, experts), pretrained)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_says_formula_scope_source_and_disagreements(name):
    text = inspect.getdoc(operators.get(name).function) or ""
    for part in (".. math::", "Scope:", "Source:"):
        assert part in text
    assert "Elsewhere:" in text or "merge_gym's own" in text
    for setting in operators.get(name).settings:
        assert f"``{setting}" in text, f"{name} does not explain {setting}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_device_is_preserved_and_does_not_change_the_draw(name):
    pretrained, experts = random_models((40, 30))
    there = merge(name, pretrained.cuda(), [expert.cuda() for expert in experts])
    assert there.device.type == "cuda"
    close(there.cpu(), merge(name, pretrained, experts), 1e-4)
