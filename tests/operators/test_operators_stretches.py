"""What lets a bank merge only a stretch of the model: facts of the whole, and where draws stand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from merge_gym import operators
from tests.operators.worked import any_settings, as_many, random_models, statistics

WITH_WHOLE = [name for name in operators.available() if operators.get(name).whole]
DRAWING = [name for name in operators.available() if operators.get(name).draws]

many = settings(max_examples=20, deadline=None)


@st.composite
def models(
    draw: st.DrawFn, name: str, sizes: st.SearchStrategy[int]
) -> tuple[Tensor, list[Tensor]]:
    """Flat models of any precision, some with many equal values, as many as the operator takes."""
    found = operators.get(name)
    count = draw(st.integers(found.min_experts, found.max_experts or 4))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
    size, seed = draw(sizes), draw(st.integers(0, 9))
    pretrained, experts = random_models((size,), count, seed=seed)
    if draw(st.booleans()):
        pretrained, *experts = [(8 * values).round() / 8 for values in (pretrained, *experts)]
    return pretrained.to(dtype), [expert.to(dtype) for expert in experts]


@pytest.mark.parametrize("name", WITH_WHOLE)
@given(data=st.data())
@many
def test_a_stretch_merged_with_the_facts_of_the_whole_has_the_bits_of_the_whole(name, data):
    pretrained, experts = data.draw(models(name, st.integers(1, 3000)))
    start = data.draw(st.integers(0, len(pretrained) - 1))
    stop = data.draw(st.integers(start + 1, len(pretrained)))
    settings = data.draw(any_settings(name, len(experts)))
    found = operators.get(name)
    whole = found.function(pretrained, experts, **settings)
    facts = found.whole(pretrained, experts, **settings)
    stretch = found.function(
        pretrained[start:stop],
        [expert[start:stop] for expert in experts],
        facts=facts,
        **settings,
    )
    assert torch.equal(stretch, whole[start:stop])


@pytest.mark.parametrize("name", WITH_WHOLE)
def test_stretches_of_a_model_of_many_pieces_have_the_bits_of_the_whole(name):
    pretrained, experts = random_models((600_011,), as_many(name, 2))
    whole = operators.merge(name, pretrained, experts)
    found = operators.get(name)
    defaults = {key: setting.default for key, setting in found.settings.items()}
    facts = found.whole(pretrained, experts, **defaults)
    for start, stop in ((0, 7), (5, 300_000), (262_143, 262_146), (299_999, 600_011)):
        some = [expert[start:stop] for expert in experts]
        stretch = operators.merge(name, pretrained[start:stop], some, facts=facts)
        assert torch.equal(stretch, whole[start:stop])


@pytest.mark.parametrize("name", WITH_WHOLE)
def test_the_facts_are_those_of_the_model_and_not_of_the_stretch(name):
    pretrained, experts = random_models((2000,), as_many(name, 3))
    experts[0][1000:] *= 3
    whole, alone = (
        operators.merge(name, pretrained[:size], [expert[:size] for expert in experts])[:1000]
        for size in (2000, 1000)
    )
    assert not torch.equal(whole, alone)


@pytest.mark.parametrize("name", [name for name in operators.available() if name not in WITH_WHOLE])
def test_an_operator_without_facts_takes_none(name):
    pretrained, experts = random_models((4, 4), as_many(name, 2))
    with pytest.raises(ValueError, match=r"unknown setting .*'facts'"):
        operators.merge(name, pretrained, experts, facts=[])


@pytest.mark.parametrize("name", DRAWING)
@given(data=st.data())
@many
def test_a_call_draws_one_number_for_each_entry_of_each_expert(name, data):
    pretrained, experts = data.draw(models(name, st.integers(1, 40)))
    shape = data.draw(st.sampled_from([(-1,), (1, -1), (-1, 1, 1)]))
    settings = data.draw(any_settings(name, len(experts)))
    generator, counted = (torch.Generator().manual_seed(3) for _ in range(2))
    pretrained, *experts = [values.view(shape) for values in (pretrained, *experts)]
    given_to = {**settings, **statistics(name, pretrained, experts), "generator": generator}
    operators.get(name).function(pretrained, experts, **given_to)
    torch.rand(len(experts) * pretrained.numel(), generator=counted)
    assert torch.equal(generator.get_state(), counted.get_state())


@given(sizes=st.lists(st.integers(0, 700), max_size=6))
@many
def test_numbers_drawn_in_several_calls_are_those_drawn_in_one(sizes):
    """What moving a generator rests on; it holds on the CPU."""
    apart, together = (torch.Generator().manual_seed(3) for _ in range(2))
    drawn = [torch.rand(size, generator=apart) for size in sizes]
    at_once = torch.rand(sum(sizes), generator=together)
    assert torch.equal(torch.cat([torch.empty(0), *drawn]), at_once)
    assert torch.equal(apart.get_state(), together.get_state())


@pytest.mark.parametrize("name", DRAWING)
def test_a_tensor_merged_where_its_generator_stands_has_the_bits_of_the_run(name):
    shapes, count = [(3, 5), (7,), (4, 4)], as_many(name, 2)
    tensors = [random_models(shape, count, seed=seed) for seed, shape in enumerate(shapes)]
    stream = torch.Generator().manual_seed(5)
    run = [operators.merge(name, *models, generator=stream) for models in tensors]
    before = sum(len(experts) * pretrained.numel() for pretrained, experts in tensors[:2])
    moved = torch.Generator().manual_seed(5)
    torch.rand(before, generator=moved)
    assert torch.equal(operators.merge(name, *tensors[2], generator=moved), run[2])
