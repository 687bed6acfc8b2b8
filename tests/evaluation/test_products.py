"""Linear layers as convolutions: the same products, up to the order of sums."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from merge_gym import Evaluator, LayerBank, ReferenceEvaluator
from merge_gym.evaluation import products
from merge_gym.evaluation.calibration import Setting
from merge_gym.evaluation.products import ConvolvedLinear, convolve
from tests.evaluation.recipes import random_recipes

sizes = st.integers(1, 40)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a product is."""
    monkeypatch.setattr(products, "WORTHWHILE", 0)


@pytest.fixture
def convolutions(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes that are convolved from here on."""
    shapes, convolve = [], functional.conv2d

    def listening(pixels: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        shapes.append(pixels.shape)
        return convolve(pixels, *rest)

    monkeypatch.setattr(functional, "conv2d", listening)
    return shapes


def convolved(inputs: int, outputs: int, bias: bool = True) -> ConvolvedLinear:
    layer = convolve(nn.Sequential(nn.Linear(inputs, outputs, bias)))[0]
    assert isinstance(layer, ConvolvedLinear)
    return layer.requires_grad_(False)


@settings(deadline=None)
@given(st.lists(sizes, min_size=1, max_size=3), sizes, sizes, st.booleans(), st.booleans())
def test_a_convolution_equals_the_product_whatever_the_shape(
    shape: list[int], inputs: int, outputs: int, bias: bool, strided: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "WORTHWHILE", 0)
        layer = convolved(inputs, outputs, bias)
        values = (
            torch.randn(*shape, 2 * inputs)[..., ::2] if strided else torch.randn(*shape, inputs)
        )
        expected = functional.linear(values, layer.weight, layer.bias)
        torch.testing.assert_close(layer(values), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("rows", "images"), [(64, 16), (50 * 17, 17), (128 * 17, 16), (63, None), (67, None), (6, None)]
)
def test_rows_are_dealt_into_as_few_images_as_onednn_takes(
    convolutions: list[torch.Size], rows: int, images: int | None
) -> None:
    convolved(8, 4)(torch.randn(rows, 8))
    expected = [] if images is None else [torch.Size([images, 8, rows // images, 1])]
    assert convolutions == expected


@pytest.mark.parametrize(
    ("terms", "lengths"),
    [(64, [64]), (192, [192]), (256, [128, 128]), (383, [192, 191]), (500, [192, 192, 116])],
)
def test_long_sums_are_cut_as_mkl_cuts_them(
    convolutions: list[torch.Size], terms: int, lengths: list[int]
) -> None:
    layer, values = convolved(terms, 64), torch.randn(1088, terms)
    expected = functional.linear(values, layer.weight, layer.bias)
    torch.testing.assert_close(layer(values), expected, atol=1e-5, rtol=1e-5)
    assert [shape[1] for shape in convolutions] == lengths


def test_a_small_product_stays_one(convolutions: list[torch.Size]) -> None:
    convolved(64, 64)(torch.randn(128, 64))
    assert not convolutions
    convolved(64, 64)(torch.randn(1024, 64))
    assert len(convolutions) == 1


def test_a_convolved_module_keeps_its_own_parameters() -> None:
    class Special(nn.Linear):
        """What is no plain linear layer is left as it is."""

    module = nn.Sequential(
        nn.Linear(3, 2), nn.GELU(), nn.Sequential(Special(2, 2), nn.Linear(2, 1))
    )
    before = dict(module.eval().named_parameters())
    convolve(module)
    after = dict(module.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is parameter for name, parameter in before.items())
    kinds = [type(part) for part in module.modules() if isinstance(part, nn.Linear)]
    assert kinds == [ConvolvedLinear, Special, ConvolvedLinear]
    assert not any(part.training for part in module.modules())


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("placement", ["device", "host"])
def test_an_engine_that_convolves_scores_as_the_reference(
    bank: LayerBank,
    monkeypatch: pytest.MonkeyPatch,
    convolutions: list[torch.Size],
    placement: str,
) -> None:
    monkeypatch.setattr(Evaluator, "_calibrate", lambda _: Setting(32, True))
    engine = Evaluator(bank, subsets=6, placement=placement)
    reference = ReferenceEvaluator(bank, subsets=6)
    for recipe in random_recipes(bank, 10):
        for task in bank.suite.tasks:
            expected = reference.logits(recipe, task)
            convolutions.clear()
            torch.testing.assert_close(engine.logits(recipe, task), expected, atol=1e-5, rtol=0)
            assert any(pixels[-1] == 1 for pixels in convolutions) == (recipe.depth > 1)
        assert engine.score(recipe) == reference.score(recipe)


@pytest.mark.usefixtures("always")
def test_the_plain_path_of_an_engine_that_convolves_does_not(
    bank: LayerBank, monkeypatch: pytest.MonkeyPatch, convolutions: list[torch.Size]
) -> None:
    monkeypatch.setattr(Evaluator, "_calibrate", lambda _: Setting(32, True))
    engine, reference = Evaluator(bank, subsets=6), ReferenceEvaluator(bank, subsets=6)
    chunk = engine._chunks.deal("low", "test", None, 1000)[0]
    for recipe in random_recipes(bank, 5):
        convolutions.clear()
        logits = engine._run_plainly(recipe, chunk)
        assert not any(pixels[-1] == 1 for pixels in convolutions)
        expected = reference.logits(recipe, "low", "test")
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
