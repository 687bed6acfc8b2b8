"""Statistics of the experts' data, and the operators in the bank that need them."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from merge_gym import LayerBank, Recipe, load_suite, operators
from merge_gym.merging.assembly import assemble
from merge_gym.merging.statistics import collect
from tests import tiny_text
from tests.tiny import two_segment_suite

WORDS = ((1, "good"), (0, "bad"), (1, "very good"), (0, "very bad"))


@pytest.fixture(scope="module")
def small(suite):
    """The tiny suite with a few examples, whose labels must not be looked at."""

    def shortened(task):
        split = task.splits["search"][:7]
        unlabelled = dataclasses.replace(split, labels=torch.full_like(split.labels, -1))
        return dataclasses.replace(task, splits={"search": unlabelled})

    return dataclasses.replace(
        suite, tasks={name: shortened(task) for name, task in suite.tasks.items()}
    )


@pytest.fixture(scope="module")
def bank(small):
    return LayerBank(small, [{"name": "regmean", "alpha": 1.0}, "fisher", "average"])


def starts(suite) -> dict[str, int]:
    """Where each tensor starts, by its full name."""
    return {
        suite.adapter.tensor_name(*group, slot.name) if group[0] else slot.name: slot.start
        for group, slots in suite.pretrained.parameters.layout.groups.items()
        for slot in slots
    }


def model_of(bank, expert: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """An expert put together by the reference's own way, and its inputs."""
    recipe = Recipe.uniform(expert, bank)
    return assemble(recipe, bank, expert), bank.suite.tasks[expert].splits["search"].inputs


def inputs_of(bank, expert: str, module: str) -> Tensor:
    model, inputs = model_of(bank, expert)
    seen: list[Tensor] = []
    model.get_submodule(module).register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.no_grad():
        model(**inputs)
    return seen[0].flatten(0, -2).double()


def test_gram_matrices_are_those_of_the_inputs_of_every_linear_layer(bank, small):
    layers = [name for name in starts(small) if name.startswith("vit.layers")]
    linear = {name for name in layers if name.endswith(("proj.weight", "fc1.weight", "fc2.weight"))}
    assert len(linear) == 3 * 6
    for expert, grams in zip(small.experts, collect("gram", small), strict=True):
        assert set(grams) == {starts(small)[name] for name in linear}
        for name in linear:
            inputs = inputs_of(bank, expert, name.removesuffix(".weight"))
            gram = grams[starts(small)[name]]
            assert gram.dtype == torch.float64
            torch.testing.assert_close(gram, inputs.T @ inputs, rtol=1e-5, atol=1e-5)


def test_fisher_diagonals_are_those_of_a_slow_loop_over_examples_and_classes(bank, small):
    diagonals = collect("fisher", small)[1]
    model, inputs = model_of(bank, "high")
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    pixels = inputs["pixel_values"]
    for example in pixels:
        for label in range(5):
            model.zero_grad()
            loss = nn.functional.cross_entropy(
                model(pixel_values=example[None]).logits, torch.tensor([label])
            )
            loss.backward()
            for name, parameter in model.named_parameters():
                expected[name] += torch.exp(-loss.detach()) * parameter.grad**2 / len(pixels)
    assert set(diagonals) == set(starts(small).values())
    for name, start in starts(small).items():
        torch.testing.assert_close(diagonals[start], expected[name], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("kind", ["gram", "fisher"])
def test_collecting_twice_gives_the_same_bits_and_leaves_the_random_state(small, kind):
    before = torch.get_rng_state()
    first, second = collect(kind, small), collect(kind, small)
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[start], other[start]) for start in one)


def test_regmean_in_the_bank_minimises_the_change_of_every_linear_layers_outputs(bank, small):
    """The gradient of Σ ‖X_i (W − W_i)‖² vanishes at the merged weight, and not at the mean."""
    name, shape = "vit.layers.1.mlp.fc1.weight", (32, 16)
    span = slice(starts(small)[name], starts(small)[name] + 32 * 16)
    slopes = {}
    for operator in ("regmean(alpha=1.0)", "average"):
        weight = bank.parameters(bank.source(operator)).flat[span].view(shape).double()
        slopes[operator] = torch.zeros(shape, dtype=torch.float64)
        for expert, checkpoint in small.experts.items():
            inputs = inputs_of(bank, expert, name.removesuffix(".weight"))
            change = weight - checkpoint.parameters.flat[span].view(shape).double()
            slopes[operator] += change @ inputs.T @ inputs
    assert slopes["regmean(alpha=1.0)"].abs().max() < 1e-3 * slopes["average"].abs().max()


@pytest.mark.parametrize(("name", "kind"), [("regmean(alpha=1.0)", "gram"), ("fisher", "fisher")])
def test_the_bank_hands_each_tensor_its_own_statistics(bank, small, name, kind):
    merged = bank.parameters(bank.source(name))
    collected = collect(kind, small)
    experts = [expert.parameters.flat for expert in small.experts.values()]
    for slots in merged.layout.groups.values():
        for slot in slots:
            span = slice(slot.start, slot.stop)
            given = [of[slot.start] for of in collected if slot.start in of]
            expected = operators.merge(
                kind if kind == "fisher" else "regmean",
                torch.zeros(slot.shape),
                [expert[span].view(slot.shape) for expert in experts],
                **({"alpha": 1.0} if kind == "gram" else {}),
                statistics=given or None,
            )
            assert torch.equal(merged.flat[span].view(slot.shape), expected)


def test_statistics_are_collected_once_and_only_when_needed(small, monkeypatch):
    collected = []

    def counting(kind, suite):
        collected.append(kind)
        return collect(kind, suite)

    monkeypatch.setattr("merge_gym.merging.pieces.collect", counting)
    bank = LayerBank(small, ["average", "regmean", {"name": "regmean", "alpha": 0.5}, "fisher"])
    bank.parameters(bank.source("average"))
    assert collected == []
    for source in bank.candidates.sources[2:]:
        bank.parameters(source)
    assert collected == ["gram", "fisher"]


@pytest.mark.parametrize("name", ["regmean", "fisher"])
def test_an_expert_without_a_task_is_refused_before_any_work(name):
    with pytest.raises(ValueError, match=rf"'{name}' runs each expert .* belongs to low, high"):
        LayerBank(two_segment_suite(), [name])


def language_suite(suite):
    """Tasks of language models in name, and nothing else of them."""
    return dataclasses.replace(
        suite,
        tasks={
            name: dataclasses.replace(task, metric="exact_match")
            for name, task in suite.tasks.items()
        },
    )


def test_fisher_of_language_models_is_refused_before_any_work(small):
    with pytest.raises(ValueError, match="'fisher' needs the probabilities of classes, but low"):
        LayerBank(language_suite(small), ["fisher"])
    assert LayerBank(language_suite(small), ["regmean"]).candidates.names[-1] == "regmean"


@pytest.mark.parametrize(
    ("family", "rows", "task"),
    [
        (
            "bert",
            [{"text": f"the film is {word}", "label": label} for label, word in WORDS],
            {"columns": {"input": "text", "label": "label"}},
        ),
        (
            "t5",
            [{"text": f"the film is {w} ?", "of": ["yes", "no"], "label": n} for n, w in WORDS],
            {
                "columns": {"input": "text", "choices": "of", "label": "label"},
                "metric": "multiple_choice",
            },
        ),
    ],
)
def test_every_linear_layer_of_a_text_model_has_a_gram_matrix(tmp_path, family, rows, task):
    suite = load_suite(tiny_text.write_suite(tmp_path, family, task, rows))
    suite = dataclasses.replace(suite, experts={"one": suite.experts["one"]})
    [grams] = collect("gram", suite)
    others = ("embed", "norm", "shared", "attention_bias", ".bias")
    linear = {
        start
        for name, start in starts(suite).items()
        if not any(part in name.lower() for part in others)
    }
    assert set(grams) == linear
    assert all(bool(gram.any()) for gram in grams.values())
