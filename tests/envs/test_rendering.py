"""A merging map as text and as a picture."""

import numpy as np
import pytest

from merge_gym import LayerBank, Recipe
from merge_gym.envs.rendering import draw_map, map_figure, recipe_figure, recipe_map, write_map
from merge_gym.recipe import LAYER_COMPONENTS, Layer, Source
from tests.tiny import two_segment_suite

STACKED = np.array([[2, 0, 0], [0, 0, 1], [0, 0, 0], [0, 12, 0], [0, 0, 0]], np.float32)


def test_text_shows_every_count_and_the_cursor_above_its_layer(bank):
    assert write_map(STACKED, bank.candidates, cursor=1).splitlines() == [
        "                      ▼",
        "                   0  1  2",
        "low                2  ·  ·",
        "high               ·  ·  1",
        "average            ·  ·  ·",
        "ties(density=0.5)  · 12  ·",
        "dare(density=0.5)  ·  ·  ·",
    ]


@pytest.mark.parametrize("cursor", [None, 3])
def test_without_a_layer_to_decide_on_no_cursor_is_drawn(bank, cursor):
    assert "▼" not in write_map(STACKED, bank.candidates, cursor)
    assert not map_figure(STACKED, bank.candidates, cursor).axes[0].patches


def test_layers_of_several_segments_carry_their_initial():
    candidates = LayerBank(two_segment_suite()).candidates
    first = write_map(np.zeros((3, 4), np.float32), candidates).splitlines()[0]
    assert first.split() == ["e0", "e1", "d0", "d1"]


def test_figure_names_rows_and_columns_and_writes_the_counts(bank):
    axes = map_figure(STACKED, bank.candidates, cursor=2, title="found").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(bank.candidates.names)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "2"), ((2, 1), "1"), ((1, 3), "12"),
    }  # fmt: skip
    assert axes.get_title(loc="left") == "found"
    assert axes.patches[0].get_x() == 1.5


def test_picture_is_rgb_bytes_and_shows_the_cursor(bank):
    picture = draw_map(STACKED, bank.candidates)
    assert (picture.dtype, picture.ndim, picture.shape[2]) == (np.uint8, 3, 3)
    assert (picture != draw_map(STACKED, bank.candidates, cursor=0)).any()


def test_map_of_a_recipe_is_the_map_of_the_walk_that_built_it(bank):
    skip, back = 5, 6
    recipe = Recipe.from_actions([0, back, 0, skip, back, 2, 1], bank)
    expected = [[2, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(recipe_map(recipe, bank.candidates), expected)


def test_map_of_a_recipe_numbers_layers_through_all_segments():
    candidates = LayerBank(two_segment_suite()).candidates
    recipe = Recipe.from_actions([0, 1, 2, 0], candidates)
    expected = [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]
    np.testing.assert_array_equal(recipe_map(recipe, candidates), expected)


def cells(figure):
    return {
        (label.get_position()[0], label.get_position()[1]): label.get_text()
        for label in figure.axes[0].texts
    }


def rows(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_figure_of_a_recipe_says_how_much_of_each_expert_stands_where(bank):
    mixed = Source.operator("task_arithmetic", weight=(0.25, 1.5))
    ties = bank.candidates.sources[3]
    layers = (Layer.of(2, mixed), Layer.of(0, Source.expert("high")), Layer.of(0, ties))
    recipe = Recipe("", (), (("layers", layers),))
    figure = recipe_figure(recipe, bank.candidates, "found")
    assert rows(figure) == ["low", "high"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2", "0", "0"]
    assert cells(figure) == {
        (0, 0): "0.25", (0, 1): "1.50", (1, 0): "0.00", (1, 1): "1.00", (2, 0): "ties",
        (2, 1): "ties",
    }  # fmt: skip
    assert figure.axes[0].get_title(loc="left") == "found"


def test_figure_of_a_recipe_of_components_has_rows_for_each_and_for_scales(bank):
    low, high = (Source.expert(name) for name in bank.candidates.experts)
    parts = (("attention", low), ("mlp", high), ("rest", low))
    recipe = Recipe("", (), (("layers", (Layer(0, parts, scale=0.5), Layer.of(1, high))),))
    figure = recipe_figure(recipe, bank.candidates, "")
    expected = [f"{kind} {expert}" for kind in LAYER_COMPONENTS for expert in ("low", "high")]
    assert rows(figure) == [*expected, "scale"]
    said = cells(figure)
    assert [said[0, row] for row in range(7)] == [
        "1.00", "0.00", "0.00", "1.00", "1.00", "0.00", "×0.50"
    ]  # fmt: skip
    assert [said[1, row] for row in range(7)] == [*["0.00", "1.00"] * 3, "×1.00"]
