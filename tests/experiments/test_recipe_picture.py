"""A recipe as a picture: every number where it belongs, no word cut off."""

from __future__ import annotations

import pytest

from experiments.recipe_picture import recipe_figure
from merge_gym.recipe import LAYER_COMPONENTS, Layer, Recipe, Source, whole
from merge_gym.spaces.candidates import Candidates

LONG = "task_arithmetic(weight=[0.4, 0.1, 0.25, 0.35])"


def candidates(experts: int = 2, layers: int = 3) -> Candidates:
    sources = [Source.expert(f"expert {number}") for number in range(experts)]
    merges = [
        Source.operator("ties", density=0.5, weight=1.0),
        Source.operator("task_arithmetic", weight=(0.25,) * experts),
    ]
    names = [*(source.name for source in sources), "ties(density=0.5)", LONG]
    return Candidates("s", "0", {"layers": layers}, [*sources, *merges], names, whole(merges[1]))


def spelt(known: Candidates, *layers: Layer) -> Recipe:
    return known.put_together(("layers", layer) for layer in layers)


def rows(figure):
    """{row's label: what is written in it}"""
    axes = figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    labels = [label.get_text() for label in axes.get_yticklabels()]
    columns = len(axes.get_xticklabels())
    return {
        label: [texts[column, row] for column in range(columns)] for row, label in enumerate(labels)
    }


def columns(figure):
    return [label.get_text() for label in figure.axes[0].get_xticklabels()]


def test_candidates_taken_whole_have_a_row_each_and_a_row_of_scales():
    known = candidates()
    one, _, ties, _ = known.sources
    figure = recipe_figure(
        spelt(known, Layer.of(0, one), Layer.of(0, ties, 0.5), Layer.of(2, one)), known, "found"
    )
    assert columns(figure) == ["0", "0", "2"]
    assert list(rows(figure)) == [*known.names, "scale"]
    assert rows(figure)["scale"] == ["×1.00", "×0.50", "×1.00"]
    shown = figure.axes[0].images[0].get_array().filled(0)
    assert shown.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert figure.axes[0].get_xlabel().endswith("output: 3, of the experts' 3")
    assert figure.get_suptitle() == "found"


def test_components_have_rows_of_each_experts_share_and_letters_for_what_has_none():
    known = candidates()
    one, other, ties, _ = known.sources
    mixed = Source.operator("task_arithmetic", weight=(0.5, 1.25))
    parts = tuple(zip(LAYER_COMPONENTS, (one, mixed, ties), strict=True))
    recipe = known.put_together(
        [("layers", Layer(1, parts, stream=1.5))], (("stem", other), ("norm", mixed))
    )
    figure = recipe_figure(recipe, known, "")
    assert columns(figure) == ["stem", "1", "norm"]
    assert rows(figure) == {
        "attention expert 0": ["0.00", "1.00", "0.50"],
        "attention expert 1": ["1.00", "0.00", "1.25"],
        "mlp expert 0": ["0.00", "0.50", "0.50"],
        "mlp expert 1": ["1.00", "1.25", "1.25"],
        "rest expert 0": ["0.00", "A", "0.50"],
        "rest expert 1": ["1.00", "A", "1.25"],
        "output": ["", "×1.50", ""],
    }
    assert "A  ties(density=0.5)" in figure.axes[0].get_xlabel()


@pytest.mark.parametrize(
    ("experts", "layers", "apart"), [(2, 4, True), (3, 40, False), (8, 4, False), (8, 4, True)]
)
def test_no_word_is_cut_off(experts, layers, apart):
    known = candidates(experts, layers)
    drawn = []
    for index in range(layers):
        source = known.sources[index % len(known)]
        parts = tuple((kind, source) for kind in LAYER_COMPONENTS) if apart else whole(source)
        drawn.append(Layer(index, parts, scale=0.75))
    figure = recipe_figure(spelt(known, *drawn), known, "a title of some words " * 4)
    figure.draw_without_rendering()
    axes, (width, height) = figure.axes[0], figure.get_size_inches() * figure.dpi
    words = [*axes.get_yticklabels(), *axes.get_xticklabels(), axes.xaxis.label, figure._suptitle]
    for word in words:
        box = word.get_window_extent()
        assert -0.5 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
