"""Recipes as mergekit configurations.

The tests that run mergekit want it in an environment of its own, whose `bin` directory is named by
the variable MERGEKIT_BIN (`pip install mergekit==0.1.5`); without it they are skipped.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig

from merge_gym import LayerBank, Recipe, Source, export
from merge_gym.exports.mergekit_yaml import NotExpressibleError, mergekit_yaml
from merge_gym.recipe import Layer, whole
from tests.models.family import FamilyCase, padded_tokens, write_case

MERGEKIT = os.environ.get("MERGEKIT_BIN")
LLAMA = {
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}
CONFIGS = {
    "tied": LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "untied": LlamaConfig(**LLAMA, tie_word_embeddings=False),
    "mistral": MistralConfig(**LLAMA, num_key_value_heads=1, sliding_window=3),
    "gpt2": GPT2Config(vocab_size=30, n_positions=12, n_embd=16, n_layer=3, n_head=2),
}
ONE, TWO = Source.expert("one"), Source.expert("two")
AVERAGE = {"name": "average"}
TUNED = {"name": "task_arithmetic", "weight": [0.7, 0.3]}
TIES = {"name": "ties", "scope": "tensor", "density": 0.5, "weight": 0.8}
SUM = {"name": "ties", "scope": "tensor", "density": 0.5, "weight": [1.0, 0.5], "consensus": "sum"}


@pytest.fixture(scope="module", params=CONFIGS)
def case(request, tmp_path_factory) -> FamilyCase:
    config = CONFIGS[request.param]
    return write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: AutoModelForCausalLM.from_config(config).save_pretrained(directory),
        padded_tokens(),
    )


def recipe_of(case: FamilyCase, *layers: tuple[int, object], shared: object = ONE) -> Recipe:
    bank = LayerBank(case.suite)
    taken = tuple(Layer.of(index, bank.source(source)) for index, source in layers)
    return Recipe(case.suite.digest, whole(bank.source(shared)), (("layers", taken),))


RECIPES = {
    "passthrough": [(0, ONE), (1, TWO), (1, TWO), (2, ONE)],
    "linear": [(index, AVERAGE) for index in range(3)],
    "task arithmetic": [(index, TUNED) for index in range(3)],
    "ties": [(index, TIES) for index in range(3)],
    "ties with sum": [(index, SUM) for index in range(3)],
    "mixed": [(2, TWO), (0, TIES), (1, AVERAGE), (1, ONE)],
}
METHODS = {
    "passthrough": ["passthrough"],
    "linear": ["linear"],
    "task arithmetic": ["task_arithmetic"],
    "ties": ["ties"],
    "ties with sum": ["ties"],
    "mixed": ["ties", "linear", "linear"],
}


def named(case: FamilyCase, name: str) -> Recipe:
    layers = RECIPES[name]
    uniform = name not in ("passthrough", "mixed")
    return recipe_of(case, *layers, shared=layers[0][1] if uniform else ONE)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_becomes_one_document_for_each_merge(case, name):
    documents = list(yaml.safe_load_all(mergekit_yaml(named(case, name), LayerBank(case.suite))))
    assert [document["merge_method"] for document in documents] == METHODS[name]
    assert all("name" in document for document in documents[:-1])
    assert "name" not in documents[-1]


@pytest.mark.skipif(MERGEKIT is None, reason="MERGEKIT_BIN names no mergekit")
@pytest.mark.parametrize("name", RECIPES)
def test_mergekit_makes_the_same_tensors(case, name, tmp_path):
    target = export(named(case, name), case.suite, tmp_path / "export")
    subprocess.run(
        [
            Path(MERGEKIT) / "mergekit-multi",
            target / "mergekit.yaml",
            "--intermediate-dir",
            tmp_path / "steps",
            "--out-path",
            tmp_path / "merged",
        ],
        check=True,
        capture_output=True,
    )
    theirs = load_file(tmp_path / "merged" / "model.safetensors")
    ours = load_file(target / "model.safetensors")
    if case.suite.pretrained.config.tie_word_embeddings:
        theirs.pop("lm_head.weight", None)
    assert theirs.keys() == ours.keys()
    deviation = max(float((theirs[name] - ours[name]).abs().max()) for name in ours)
    assert deviation <= 1e-6


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"name": "ties"}, "trims each tensor by itself"),
        ({"name": "ties", "scope": "tensor", "weight": [1.0, 0.5]}, "divides by the weights"),
        ({"name": "ties", "scope": "tensor", "density": 0.03}, "another number of entries"),
        ({"name": "dare"}, "no method that equals dare"),
    ],
)
def test_what_mergekit_cannot_express_is_said(case, source, reason, tmp_path):
    recipe = recipe_of(case, (0, source))
    with pytest.raises(NotExpressibleError, match=reason):
        mergekit_yaml(recipe, LayerBank(case.suite))
    target = export(recipe, case.suite, tmp_path / "export")
    assert not (target / "mergekit.yaml").exists()
    assert "There is no mergekit configuration: mergekit" in (target / "README.md").read_text()


def test_a_recipe_without_layers_is_none_for_mergekit(case):
    with pytest.raises(NotExpressibleError, match="no model without layers"):
        mergekit_yaml(recipe_of(case), LayerBank(case.suite))


def test_models_with_task_heads_are_none_for_mergekit(suite, bank):
    with pytest.raises(NotExpressibleError, match="merges task heads too"):
        mergekit_yaml(Recipe.uniform("low", bank), bank)
