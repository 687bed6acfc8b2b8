"""Recipes: values that replay actions, travel as JSON and name their sources."""

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merge_gym import LayerBank, Recipe, Source
from merge_gym.recipe import LAYER_COMPONENTS, SHARED_COMPONENTS, Layer, whole
from tests.tiny import two_segment_suite

SKIP, BACK = 5, 6
TIES = Source.operator("ties", consensus="mean", density=0.5, scope="model", weight=1.0)


def layers_of(recipe):
    return [(layer.index, layer.source.name) for _, layers in recipe.segments for layer in layers]


def test_from_actions_follows_the_rules_of_the_env(bank):
    recipe = Recipe.from_actions([0, 3, BACK, 1, SKIP], bank)
    assert layers_of(recipe) == [(0, "low"), (1, "ties"), (1, "high")]
    assert recipe.segments[0][1][1].source == TIES
    assert (recipe.suite, recipe.shared) == (bank.suite.digest, bank.candidates.shared)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 0], "stands at layer 2 of 3"),
        ([], "stands at layer 0 of 3"),
        ([0, BACK, BACK], "stands at layer 0 of 3 and is invalid"),
        ([0, 0, 0, 0], "ended before action 3"),
        ([BACK, 0, 0, 0], "ended before action 1"),
        ([0, 7, 0], "from 0 to 6, got 7"),
        ([0, 1.5, 0], "an integer from 0 to 6, got 1.5"),
    ],
)
def test_actions_that_build_no_model_are_refused(bank, actions, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_actions(actions, bank)


def test_uniform_takes_every_layer_from_one_source(bank):
    high, ties = Recipe.uniform("high", bank), Recipe.uniform("ties(density=0.5)", bank)
    assert high.segments == Recipe.from_actions([1, 1, 1], bank).segments
    assert ties.segments == Recipe.from_actions([3, 3, 3], bank).segments
    assert high.shared == whole(Source.expert("high"))
    assert Recipe.uniform({"name": "ties", "density": 0.5}, bank) == Recipe.uniform(TIES, bank)


def test_uniform_takes_sources_outside_the_bank(bank):
    recipe = Recipe.uniform("task_arithmetic", bank)
    assert layers_of(recipe) == [(index, "task_arithmetic") for index in range(3)]


def test_an_unknown_source_is_refused_with_the_nearest_names(bank):
    with pytest.raises(ValueError, match=r"unknown source 'hihg'.*'high'"):
        Recipe.uniform("hihg", bank)
    with pytest.raises(ValueError, match=r"unknown source 'tie'.*'ties'"):
        Recipe.uniform("tie", bank)
    with pytest.raises(ValueError, match=r"unknown expert 'lwo'.*'low'"):
        Recipe.uniform(Source.expert("lwo"), bank)


def test_equal_recipes_are_one_key(bank):
    a, b = (Recipe.from_actions([0, 3, 1], bank) for _ in range(2))
    assert a is not b
    assert len({a, b, Recipe.from_actions([0, 3, 0], bank)}) == 2


def test_a_source_does_not_depend_on_the_order_of_its_parameters():
    a, b = (
        Source.operator("ties", density=0.5, weight=[1, 2]),
        Source.operator("ties", weight=(1, 2), density=0.5),
    )
    assert a == b
    assert hash(a) == hash(b)


def test_text_shows_each_layer_with_its_source(bank):
    recipe = Recipe.from_actions([0, SKIP, 3], bank)
    assert str(recipe) == f"layers: 0:low → 2:{TIES}"
    assert str(TIES) == "ties(consensus=mean, density=0.5, scope=model, weight=1.0)"


def test_json_names_sources_by_value(bank):
    data = json.loads(Recipe.from_actions([0, SKIP, 3], bank).to_json())
    assert data["format"] == "merge_gym.recipe/2"
    assert data["suite"] == bank.suite.digest
    assert data["segments"]["layers"] == [
        {"layer": 0, "expert": "low"},
        {"layer": 2, "operator": "ties", "consensus": "mean", "density": 0.5, "scope": "model",
         "weight": 1.0},
    ]  # fmt: skip


sources = st.builds(Source.expert, st.text()) | st.builds(
    lambda name, parameters: Source.operator(name, **parameters),
    st.text(),
    st.dictionaries(
        st.sampled_from(["density", "weight", "consensus", "rescale_it"]),
        st.floats(allow_nan=False)
        | st.integers()
        | st.booleans()
        | st.none()
        | st.text()
        | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    ),
)
experts_of = st.lists(st.text(min_size=1), max_size=2).map(tuple)
sources |= st.builds(Source.operator, st.text(), experts_of)


def parts_of(components):
    apart = st.tuples(*(st.tuples(st.just(name), sources) for name in components))
    return sources.map(whole) | apart


scales = st.floats(-1e38, 1e38)
layers = st.builds(Layer, st.integers(0, 50), parts_of(LAYER_COMPONENTS), scales, scales)
segments = st.lists(
    st.tuples(st.text(), st.lists(layers, max_size=4).map(tuple)),
    max_size=3,
    unique_by=lambda segment: segment[0],
).map(tuple)


@given(st.builds(Recipe, st.text(), parts_of(SHARED_COMPONENTS), segments))
def test_any_recipe_survives_json_and_pickle(recipe):
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, SKIP), min_size=3, max_size=3))
def test_a_recipe_read_back_scores_the_same(bank, evaluator, actions):
    recipe = Recipe.from_actions(actions, bank)
    again = Recipe.from_json(recipe.to_json())
    assert evaluator.score(again, subset=0) == evaluator.score(recipe, subset=0)


def test_a_recipe_of_the_first_format_opens_to_an_equal_one(bank):
    recipe = Recipe.from_actions([0, SKIP, 3], bank)
    ties = {"operator": "ties", "consensus": "mean", "density": 0.5, "scope": "model"}
    average = {"operator": "average", "scope": "tensor", "weight": 1.0}
    first = {
        "format": "merge_gym.recipe/1",
        "suite": bank.suite.digest,
        "shared": average,
        "segments": {
            "layers": [{"layer": 0, "expert": "low"}, {"layer": 2, **ties, "weight": 1.0}]
        },
    }
    assert Recipe.from_json(json.dumps(first)) == recipe


def test_components_and_scales_are_written_where_they_are(bank):
    low, high = Source.expert("low"), Source.expert("high")
    parts = (("attention", low), ("mlp", high), ("rest", low))
    layers = (Layer(1, parts, scale=0.5), Layer.of(2, low, stream=2.0))
    shared = (("stem", low), ("norm", high))
    data = json.loads(Recipe(bank.suite.digest, shared, (("layers", layers),)).to_json())
    assert data["shared"] == {"parts": {"stem": {"expert": "low"}, "norm": {"expert": "high"}}}
    assert data["segments"]["layers"] == [
        {
            "layer": 1,
            "scale": 0.5,
            "parts": {
                "attention": {"expert": "low"},
                "mlp": {"expert": "high"},
                "rest": {"expert": "low"},
            },
        },
        {"layer": 2, "stream": 2.0, "expert": "low"},
    ]


@pytest.mark.parametrize(
    "layer",
    [
        {"layer": 0, "parts": {"attention": {"expert": "low"}}},
        {"layer": 0, "parts": {"attention": 3, "mlp": 3, "rest": 3}},
        {"layer": 0, "expert": "low", "scale": "1"},
        {"layer": 0, "expert": "low", "scale": float("nan")},
        {"layer": 0, "expert": "low", "stream": None},
        {"layer": 0, "expert": ["low"]},
        {"layer": 0, "operator": "ties", "density": {"a": 1}},
        {"layer": 0, "operator": "ties", "experts": [3]},
    ],
)
def test_a_layer_of_another_kind_is_refused(bank, layer):
    text = edited(bank, lambda data: data["segments"].update(layers=[layer]))
    with pytest.raises(ValueError, match=r"parts name|a scale is|a name is|a setting is|not as"):
        Recipe.from_json(text)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["format", "suite", "shared", "segments", "layer", "expert", "parts"]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_recipe_or_a_value_error(data):
    for text in (json.dumps(data), json.dumps({"format": "merge_gym.recipe/2", "x": data})):
        with pytest.raises(ValueError, match=r"recipe|name|source|scale|setting|parts"):
            Recipe.from_json(text)


def edited(bank, edit):
    data = json.loads(Recipe.from_actions([0, 3, 1], bank).to_json())
    edit(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data.pop("format"), "expected a recipe of format 'merge_gym.recipe/2'"),
        (lambda data: data.update(format="mergekit"), "got 'mergekit'"),
        (lambda data: data.pop("suite"), "lacks the field 'suite'"),
        (lambda data: data.pop("shared"), "lacks the field 'shared'"),
        (lambda data: data.pop("segments"), "lacks the field 'segments'"),
        (lambda data: data.update(segments=[]), "not as to_json writes it"),
        (lambda data: data["segments"].update(layers=["low"]), "not as to_json writes it"),
        (lambda data: data["segments"]["layers"][0].pop("layer"), "lacks the field 'layer'"),
        (lambda data: data["segments"]["layers"][0].update(layer="0"), "a whole number from 0"),
        (lambda data: data["segments"]["layers"][0].update(layer=True), "a whole number from 0"),
        (lambda data: data["segments"]["layers"][0].update(layer=-1), "a whole number from 0"),
        (lambda data: data["segments"]["layers"][0].update(scale=10**400), "a finite number"),
        (lambda data: data["segments"]["layers"][0].update(stream=1e39), "a finite number"),
        (lambda data: data["segments"].update(layers=""), "layers are a list"),
        (lambda data: data["segments"].update(layers={}), "layers are a list"),
        (lambda data: data.update(head="own"), "has no field 'head'"),
        (lambda data: data["segments"]["layers"][0].pop("expert"), "a source is"),
        (lambda data: data["segments"]["layers"][0].update(density=1), "a source is"),
        (lambda data: data.update(shared="average"), "a source is .* got 'average'"),
    ],
)
def test_json_that_is_no_recipe_is_refused(bank, edit, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_json(edited(bank, edit))


ODD = [None, True, -1, 1.5, float("nan"), 10**400, "", "\ud800", [], {}, [[]], {"a": {}}, 1e39]


def _places(value, path=()):
    yield path
    items = enumerate(value) if isinstance(value, list) else ()
    for key, inner in value.items() if isinstance(value, dict) else items:
        yield from _places(inner, (*path, key))


def test_a_recipe_with_any_value_in_any_place_is_refused_or_survives_json():
    one = Source.expert("one")
    parts = tuple(zip(("attention", "mlp", "rest"), (one, one, one), strict=True))
    ties = Source.operator("ties", ["one"], density=0.5, weight=[0.5, 1])
    layers = (Layer.of(0, ties), Layer(1, parts, scale=1.1, stream=0.9))
    recipe = Recipe("digest", (("stem", one), ("norm", one)), (("layers", layers),))
    for path in list(_places(json.loads(recipe.to_json()))):
        for value in ODD:
            data = {"": json.loads(recipe.to_json())}
            holder, key = data, ""
            for step in path:
                holder, key = holder[key], step
            holder[key] = value
            try:
                read = Recipe.from_json(json.dumps(data[""]))
            except ValueError:
                continue
            assert Recipe.from_json(read.to_json()).to_json() == read.to_json()
            assert {read: str(read)}


@pytest.mark.parametrize("text", ["", "{", "low, high"])
def test_text_that_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match="a recipe is JSON text, this is not"):
        Recipe.from_json(text)


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_json_that_is_no_object_is_refused(text):
    with pytest.raises(ValueError, match="expected a recipe of format"):
        Recipe.from_json(text)


def test_taken_layers_land_in_their_own_segment_with_their_index_there():
    bank = LayerBank(two_segment_suite())
    back = len(bank.candidates.names) + 1
    recipe = Recipe.from_actions([0, 1, 2, back, back, 1, 2, 0], bank)
    assert bank.candidates.segments == {"encoder": 2, "decoder": 2}
    assert [(name, [(layer.index, layer.source.name) for layer in layers])
            for name, layers in recipe.segments] == [
        ("encoder", [(0, "low"), (1, "high"), (1, "high")]),
        ("decoder", [(0, "average"), (0, "average"), (1, "low")]),
    ]  # fmt: skip
    assert recipe.depth == 6


def test_a_segment_may_be_empty():
    bank = LayerBank(two_segment_suite())
    skip = len(bank.candidates.names)
    recipe = Recipe.from_actions([0, 0, skip, skip], bank)
    assert recipe.segments[1] == ("decoder", ())
    bank.resolve(recipe)
