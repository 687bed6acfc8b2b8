"""The layer bank: candidates in action order, merged when first asked for."""

import dataclasses

import pytest
import torch

from merge_gym import LayerBank, Recipe, Source, operators
from merge_gym.recipe import Layer, whole
from tests.tiny import OPERATORS, two_segment_suite


def flat(bank, spec):
    return bank.parameters(bank.source(spec)).flat


def models(suite):
    return suite.pretrained.parameters.flat, [e.parameters.flat for e in suite.experts.values()]


@pytest.fixture
def counted(monkeypatch):
    """The operators that were run, in order."""
    ran = []
    merge = operators.merge

    def counting(name, *args, **kwargs):
        ran.append(name)
        return merge(name, *args, **kwargs)

    monkeypatch.setattr(operators, "merge", counting)
    return ran


def test_candidates_are_the_experts_then_the_operators_in_order(suite):
    bank = LayerBank(suite, operators=["ties", {"name": "dare", "density": 0.3}])
    assert bank.candidates.names == ("low", "high", "ties", "dare(density=0.3)")
    assert [source.name for source in bank.candidates.sources] == ["low", "high", "ties", "dare"]
    assert bank.candidates.segments == {"layers": 3}


def test_without_operators_the_suites_own_bank_is_used(suite):
    assert LayerBank(suite).candidates.sources == LayerBank(suite, OPERATORS).candidates.sources


def test_a_bank_of_experts_alone_is_legal(suite):
    assert LayerBank(suite, operators=[]).candidates.names == ("low", "high")


def test_a_layer_is_merged_once_and_when_first_asked_for(suite, counted):
    bank = LayerBank(suite, operators=["average", "ties"])
    assert counted == []
    layer = Layer.of(0, bank.source("average"))
    first = bank.layer("layers", layer)
    assert set(counted) == {"average"}
    assert len(counted) == len(first)
    counted.clear()
    again = bank.layer("layers", layer)
    assert counted == []
    assert all(first[name].data_ptr() == again[name].data_ptr() for name in first)


def test_the_least_recently_used_pieces_go_and_come_back_with_the_same_bits(suite, counted):
    bank = LayerBank(suite, operators=["average"], bank_bytes=2**12)
    layers = [Layer.of(index, bank.source("average")) for index in range(3)]
    before = [
        {name: tensor.clone() for name, tensor in bank.layer("layers", layer).items()}
        for layer in layers
    ]
    counted.clear()
    after = [bank.layer("layers", layer) for layer in layers]
    assert counted
    assert bank._pieces._kept.used <= 2**11
    for one, other in zip(before, after, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", operators.available())
@pytest.mark.parametrize("scope", ["tensor", "layer", "model"])
def test_every_piece_has_the_bits_of_a_merge_of_the_whole(suite, name, scope):
    """The merge of the whole model, stretch after stretch, as it stands in no bank."""
    if operators.get(name).needs or scope not in operators.get(name).scopes:
        pytest.skip("needs data, or has no such scope")
    bank = LayerBank(suite, operators=[])
    source = bank.source({"name": name, "scope": scope})
    settings = dict(source.parameters)
    del settings["scope"]
    if "seed" in settings:
        settings["generator"] = torch.Generator().manual_seed(settings.pop("seed"))
    pretrained, experts = models(suite)
    expected = torch.empty_like(pretrained)
    for span, shape in suite.pretrained.parameters.stretches(scope):
        values = [expert[span].view(shape) for expert in experts]
        merged = operators.merge(name, pretrained[span].view(shape), values, **settings)
        expected[span] = merged.view(-1)
    layout = suite.pretrained.parameters.layout
    for segment, index in reversed(layout.groups):
        if index < 0:
            tensors = bank.shared_tensors(whole(source))
        else:
            tensors = bank.layer(segment, Layer.of(index, source))
        for slot in layout.groups[segment, index]:
            stretch = expected[slot.start : slot.stop].view(slot.shape)
            assert torch.equal(tensors[slot.name], stretch)


def test_a_component_alone_merges_no_other_tensor(suite, counted):
    bank = LayerBank(suite, operators=["average"])
    average, low = bank.source("average"), bank.source("low")
    parts = (("attention", average), ("mlp", low), ("rest", low))
    tensors = bank.layer("layers", Layer(1, parts))
    attention = [name for name in tensors if name.startswith("attention.")]
    assert counted == ["average"] * len(attention)
    expert = suite.experts["low"].parameters.group(("layers", 1))
    merged = bank.layer("layers", Layer.of(1, average))
    for name, tensor in tensors.items():
        assert torch.equal(tensor, (merged if name in attention else expert)[name])


def test_an_operator_over_a_subset_of_experts_merges_these_alone(suite):
    bank = LayerBank(suite)
    alone = {"name": "task_arithmetic", "experts": ["high"], "weight": 0.5}
    source = bank.source(alone)
    assert source.experts == ("high",)
    both = bank.source({"name": "task_arithmetic", "weight": [0.0, 0.5]})
    torch.testing.assert_close(flat(bank, source), flat(bank, both))
    with pytest.raises(ValueError, match="in the suite's order, low, high; got high, low"):
        bank.source({"name": "average", "experts": ["high", "low"]})
    with pytest.raises(ValueError, match=r"unknown expert 'hihg'.*Did you mean 'high'"):
        bank.source({"name": "average", "experts": ["hihg"]})


def test_all_experts_named_one_by_one_are_all_experts(suite):
    bank = LayerBank(suite)
    assert bank.source({"name": "average", "experts": ["low", "high"]}) == bank.source("average")


def test_a_bare_name_means_the_banks_own_candidate(suite):
    bank = LayerBank(suite, [{"name": "ties", "density": 0.3}])
    assert dict(bank.source("ties").parameters)["density"] == 0.3
    two = LayerBank(suite, [{"name": "ties", "density": density} for density in (0.2, 0.8)])
    with pytest.raises(ValueError, match=r"'ties' is ambiguous.*density=0.2.*density=0.8"):
        two.source("ties")


def test_uniform_is_the_whole_model_and_repeated_is_not(suite):
    bank = LayerBank(suite)
    recipe = Recipe.uniform("low", bank)
    assert recipe.shared == whole(Source.expert("low"))
    repeated = bank.candidates.repeated(Source.expert("low"))
    assert repeated.segments == recipe.segments
    assert repeated.shared == bank.candidates.shared != recipe.shared


def test_experts_are_not_copied(suite):
    bank = LayerBank(suite)
    assert flat(bank, "low").data_ptr() == suite.experts["low"].parameters.flat.data_ptr()


def test_variants_of_one_operator_stand_side_by_side(suite):
    bank = LayerBank(suite, [{"name": "ties", "density": density} for density in (0.2, 0.8)])
    assert bank.candidates.names[2:] == ("ties(density=0.2)", "ties(density=0.8)")
    assert not torch.equal(flat(bank, "ties(density=0.2)"), flat(bank, "ties(density=0.8)"))


@pytest.mark.parametrize(
    "twice",
    [
        ["ties", "ties"],
        ["ties", {"name": "ties"}],
        ["ties", {"name": "ties", "density": 0.2}],
        [{"name": "dare", "density": 1}, {"name": "dare", "density": 1.0}],
    ],
)
def test_the_same_candidate_twice_is_refused(suite, twice):
    with pytest.raises(ValueError, match=r"in the bank twice; give each operator other"):
        LayerBank(suite, twice)


def test_an_expert_named_like_an_operator_is_refused(suite):
    renamed = dataclasses.replace(
        suite, experts=dict(zip(("ties", "high"), suite.experts.values(), strict=True))
    )
    with pytest.raises(ValueError, match=r"'ties' is in the bank twice.*no expert an operator's"):
        LayerBank(renamed, ["ties"])


def test_a_tensor_scoped_operator_sees_one_tensor_at_a_time(suite):
    bank = LayerBank(suite, [{"name": "ties", "density": 0.3, "scope": "tensor"}])
    pretrained, (low, high) = suite.pretrained.parameters, models(suite)[1]
    merged = flat(bank, bank.candidates.sources[2])
    for slots in pretrained.layout.groups.values():
        for slot in slots:
            span = slice(slot.start, slot.stop)
            expected = operators.merge(
                "ties", pretrained.flat[span], [low[span], high[span]], density=0.3
            )
            torch.testing.assert_close(merged[span], expected, rtol=0, atol=0)


def test_a_layer_scoped_operator_sees_one_layer_at_a_time(suite):
    bank = LayerBank(suite, [{"name": "ties", "density": 0.3, "scope": "layer"}])
    pretrained, (low, high) = suite.pretrained.parameters, models(suite)[1]
    span = pretrained.layout.span(("layers", 1))
    expected = operators.merge("ties", pretrained.flat[span], [low[span], high[span]], density=0.3)
    assert torch.equal(flat(bank, bank.candidates.sources[2])[span], expected)


def test_a_model_scoped_operator_sees_the_whole_model(suite):
    bank = LayerBank(suite, [{"name": "ties", "density": 0.3}])
    pretrained, experts = models(suite)
    expected = operators.merge("ties", pretrained, experts, density=0.3)
    assert torch.equal(flat(bank, bank.candidates.sources[2]), expected)


def test_scopes_trim_ties_differently(suite):
    scopes = ("tensor", "layer", "model")
    bank = LayerBank(suite, [{"name": "ties", "density": 0.3, "scope": scope} for scope in scopes])
    tensor, layer, model = (flat(bank, source) for source in bank.candidates.sources[2:])
    assert not torch.equal(tensor, model)
    assert not torch.equal(tensor, layer)
    assert not torch.equal(layer, model)


def test_dare_depends_on_its_seed_alone(suite):
    specs = [{"name": "dare", "seed": seed} for seed in (0, 1)]
    one, other = LayerBank(suite, specs), LayerBank(suite, specs)
    torch.manual_seed(7)
    zero = flat(one, "dare(seed=0)")
    assert torch.equal(zero, flat(other, "dare(seed=0)"))
    assert not torch.equal(zero, flat(one, "dare(seed=1)"))


def test_dares_seed_starts_the_stream_that_runs_through_all_tensors(suite):
    bank = LayerBank(suite, [{"name": "dare", "seed": 5}])
    pretrained, experts = models(suite)
    stream = torch.Generator().manual_seed(5)
    for slot in [s for slots in suite.pretrained.parameters.layout.groups.values() for s in slots]:
        span = slice(slot.start, slot.stop)
        expected = operators.merge(
            "dare", pretrained[span], [expert[span] for expert in experts], generator=stream
        )
        assert torch.equal(flat(bank, "dare(seed=5)")[span], expected)


def test_dare_does_not_depend_on_the_order_in_which_candidates_are_asked_for(suite):
    one, other = LayerBank(suite), LayerBank(suite)
    wanted = ["dare(density=0.5)", "average", "ties(density=0.5)"]
    forward = [flat(one, name) for name in wanted]
    backward = [flat(other, name) for name in reversed(wanted)]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_merging_leaves_the_models_as_they_were(suite):
    pretrained, experts = models(suite)
    before = [tensor.clone() for tensor in (pretrained, *experts)]
    bank = LayerBank(suite, ["average", "task_arithmetic", "ties", "dare", "dare_ties"])
    for source in bank.candidates.sources:
        bank.parameters(source)
    assert all(torch.equal(a, b) for a, b in zip(before, (pretrained, *experts), strict=True))


def test_shared_parameters_come_from_the_named_source(suite):
    of_suite, of_expert = LayerBank(suite), LayerBank(suite, shared="high")
    of_operator = LayerBank(suite, shared={"name": "task_arithmetic", "weight": [0.2, 0.4]})
    assert of_suite.candidates.shared[0][1].name == "average"
    assert of_expert.candidates.shared == whole(Source.expert("high"))
    assert of_operator.candidates.shared[0][1].name == "task_arithmetic"
    name = "vit.embeddings.cls_token"
    low, high = (suite.experts[expert].parameters.group(("", -1))[name] for expert in suite.experts)
    pretrained = suite.pretrained.parameters.group(("", -1))[name]
    tensors = [
        bank.shared_tensors(bank.candidates.shared)[name]
        for bank in (of_suite, of_expert, of_operator)
    ]
    torch.testing.assert_close(tensors[0], (low + high) / 2)
    assert torch.equal(tensors[1], high)
    expected = pretrained + 0.2 * (low - pretrained) + 0.4 * (high - pretrained)
    torch.testing.assert_close(tensors[2], expected)


def test_a_label_is_the_candidates_name_or_the_source_in_full(bank):
    assert bank.candidates.label(bank.candidates.sources[3]) == "ties(density=0.5)"
    assert bank.candidates.label(Source.operator("ties", density=0.9)) == "ties(density=0.9)"


def test_check_refuses_a_recipe_of_another_suite(bank):
    other = Recipe.uniform("low", LayerBank(two_segment_suite()))
    with pytest.raises(ValueError, match=rf"digest {other.suite}, this is tiny.*own suite"):
        bank.resolve(other)


def test_check_refuses_other_segments(bank):
    recipe = Recipe(bank.suite.digest, bank.candidates.shared, (("encoder", ()),))
    with pytest.raises(ValueError, match="has the segments layers"):
        bank.resolve(recipe)


@pytest.mark.parametrize("index", [-1, 3])
def test_check_refuses_layers_that_the_models_do_not_have(bank, index):
    layer = Layer.of(index, bank.candidates.sources[0])
    recipe = Recipe(bank.suite.digest, bank.candidates.shared, (("layers", (layer,)),))
    with pytest.raises(ValueError, match=rf"takes layers \[{index}\] of 'layers', which has 3"):
        bank.resolve(recipe)


def test_an_unknown_operator_is_refused_with_the_nearest_names(suite):
    with pytest.raises(ValueError, match=r"(?i)unknown operator 'tis'.*'?ties'?"):
        LayerBank(suite, ["tis"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "ties", "density": -0.1},
            r"'ties': density is a finite number from 0 to 1, got -0\.1",
        ),
        (
            {"name": "ties", "densty": 0.1},
            r"unknown setting of operator 'ties' 'densty'.*'density'",
        ),
        (
            {"name": "task_arithmetic", "weight": [1, 2, 3]},
            r"one for each.*got \[1, 2, 3\]",
        ),
        ({"name": "dare", "seed": -1}, r"seed is a whole number from 0 to .*got -1"),
        ({"density": 0.5}, r"an operator is a name or \{'name'.*got \{'density': 0\.5\}"),
        (3, r"an operator is a name or \{'name'.*got 3"),
    ],
)
def test_a_bad_operator_setting_is_refused(suite, spec, message):
    with pytest.raises(ValueError, match=message):
        LayerBank(suite, [spec])


@pytest.mark.parametrize("operators", ["ties", {"name": "ties"}])
def test_one_operator_in_the_place_of_a_list_is_refused(suite, operators):
    with pytest.raises(ValueError, match="operators is a list"):
        LayerBank(suite, operators)
