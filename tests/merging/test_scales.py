"""Output scales in weights, against hooks that multiply what layers give."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from merge_gym import LayerBank, Recipe, Source
from merge_gym.merging.assembly import assemble
from merge_gym.recipe import Layer, whole
from tests.tiny import two_segment_suite

LOW = Source.expert("low")


def recipe_of(bank, *layers):
    return Recipe(bank.suite.digest, whole(LOW), (("layers", layers),))


def logits(model, suite):
    with torch.no_grad():
        return model(**suite.tasks["low"].splits["test"].inputs).logits


@pytest.mark.parametrize("streams", [(2.0, 1.0, 1.0), (1.0, 0.3, 1.0), (1.7, 0.6, 3.0)])
def test_a_stream_is_scaled_as_if_each_layers_output_were(suite, bank, streams):
    layers = [Layer.of(index, LOW, stream=factor) for index, factor in enumerate(streams)]
    folded = assemble(recipe_of(bank, *layers), bank, "low")
    hooked = assemble(recipe_of(bank, *(Layer.of(index, LOW) for index in range(3))), bank, "low")
    plain = logits(hooked, suite)
    for module, factor in zip(hooked.vit.layers, streams, strict=True):
        module.register_forward_hook(lambda _, inputs, output, factor=factor: factor * output)
    expected = logits(hooked, suite)
    torch.testing.assert_close(logits(folded, suite), expected, atol=2e-5, rtol=0)
    assert (expected - plain).abs().max() > 1e-3


def test_branches_scaled_by_zero_leave_the_stream_as_it_is(suite, bank):
    silent = assemble(recipe_of(bank, Layer.of(1, LOW, scale=0.0)), bank, "low")
    torch.testing.assert_close(
        logits(silent, suite), logits(assemble(recipe_of(bank), bank, "low"), suite)
    )


def test_equal_parts_are_one_source_and_scales_survive(bank):
    parts = tuple((component, LOW) for component in ("attention", "mlp", "rest"))
    resolved = bank.resolve(recipe_of(bank, Layer(0, parts, scale=0.5)))
    assert resolved.segments[0][1] == (Layer.of(0, LOW, scale=0.5),)


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_a_stream_scaled_by_nothing_is_refused(bank, factor):
    with pytest.raises(ValueError, match="a stream's factor is greater than 0"):
        bank.resolve(recipe_of(bank, Layer.of(0, LOW, stream=factor)))


def test_what_a_family_lacks_is_refused_by_name():
    bank = LayerBank(two_segment_suite())
    recipe = bank.candidates.repeated(LOW)

    def with_first(layer):
        (name, layers), other = recipe.segments
        return dataclasses.replace(recipe, segments=((name, (layer, *layers[1:])), other))

    apart = tuple((component, LOW) for component in ("attention", "mlp", "rest"))
    for layer, message in (
        (Layer.of(0, LOW, scale=2.0), "layers of two_segments have no scale"),
        (Layer.of(0, LOW, stream=2.0), "output of two_segments layers cannot be scaled"),
        (Layer(0, apart), "layers of two_segments have one source; got sources for attention"),
    ):
        with pytest.raises(ValueError, match=message):
            bank.resolve(with_first(layer))


def test_a_component_that_is_missing_is_refused(bank):
    parts = (("attention", LOW), ("rest", LOW))
    with pytest.raises(ValueError, match=r"one for each of attention, mlp, rest.*attention, rest"):
        bank.resolve(recipe_of(bank, Layer(0, parts)))
