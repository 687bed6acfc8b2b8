"""A merging map as text and as a picture."""

from types import SimpleNamespace

import numpy as np
import pytest

from merge_gym import LayerBank, Recipe
from merge_gym.envs.rendering import draw_map, map_figure, recipe_map, write_map
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
    figure = map_figure(STACKED, bank.candidates, cursor=2, title="found")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(bank.candidates.names)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "2"), ((2, 1), "1"), ((1, 3), "12"),
    }  # fmt: skip
    assert figure.get_suptitle() == "found"
    assert axes.patches[0].get_x() == 1.5


@pytest.mark.parametrize("layers", [2, 12])
def test_no_word_of_the_figure_is_cut_off(layers):
    names = ("one", "task_arithmetic(weight=[0.4, 0.1, 0.25, 0.35])")
    candidates = SimpleNamespace(names=names, segments={"layers": layers})
    figure = map_figure(np.ones((2, layers)), candidates, title="a title that is as long " * 3)
    figure.draw_without_rendering()
    axes, (width, height) = figure.axes[0], figure.get_size_inches() * figure.dpi
    for text in (*axes.get_yticklabels(), axes.xaxis.label, *figure.texts, figure._suptitle):
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height


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
