"""Exported checkpoints: what plain transformers loads, and what is left behind when it fails."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from merge_gym import LayerBank, Recipe, export
from merge_gym.exports import checkpoints
from merge_gym.exports.model_card import model_card
from merge_gym.merging.assembly import assemble
from tests.models.family import padded_tokens, write_case
from tests.tiny import two_segment_suite

from transformers import (  # isort: skip  # after merge_gym, which mends torchvision
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
)

SKIP, BACK = 5, 6

PLAIN_CLIENT = """
import io, json, sys
sys.modules["merge_gym"] = None  # any import of it now fails
try:
    import torchvision
except RuntimeError:  # built for another torch; see merge_gym.models.torchvision_shim
    import torch
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
except ImportError:
    pass
import pyarrow.parquet, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

checkpoints, data, results = *sys.argv[1:], {}
for task in ("low", "high"):
    model = AutoModelForImageClassification.from_pretrained(f"{checkpoints}/{task}")
    prepare = AutoImageProcessor.from_pretrained(f"{checkpoints}/{task}")
    for split in ("search", "test"):
        rows = pyarrow.parquet.read_table(f"{data}/{task}-{split}.parquet").to_pylist()
        images = [Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows]
        with torch.inference_mode():
            logits = model(**prepare(images=images, return_tensors="pt")).logits
        labels = torch.tensor([row["label"] for row in rows])
        results[f"{task}/{split}"] = (logits.argmax(-1) == labels).double().mean().item()
    results[f"{task}/depth"] = model.config.num_hidden_layers
print(json.dumps(results))
"""


@pytest.fixture
def recipe(bank):
    """Mixed sources, a stacked layer, a skipped one: depth 4."""
    return Recipe.from_actions([0, 3, BACK, 1, BACK, 4, SKIP], bank)


def contents(directory):
    return sorted(str(file.relative_to(directory)) for file in directory.rglob("*"))


def test_plain_transformers_scores_the_checkpoint_as_the_evaluator_does(
    suite, suite_file, evaluator, recipe, tmp_path
):
    export(recipe, suite, tmp_path / "merged")
    finished = subprocess.run(
        [sys.executable, "-c", PLAIN_CLIENT, tmp_path / "merged", suite_file.parent],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    expected = {f"{task}/depth": 4 for task in suite.tasks}
    for split in ("search", "test"):
        for task, score in evaluator.score(recipe, split).items():
            expected[f"{task}/{split}"] = score
    assert json.loads(finished.stdout) == expected


def test_the_directory_holds_a_checkpoint_for_each_task_the_recipe_and_a_card(
    suite, recipe, tmp_path
):
    target = export(recipe, suite, tmp_path / "new" / "merged")
    assert target == tmp_path / "new" / "merged"
    files = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert contents(target) == sorted(
        ["README.md", "recipe.json", "low", "high"]
        + [f"{task}/{file}" for task in suite.tasks for file in files]
    )
    assert Recipe.from_json((target / "recipe.json").read_text()) == recipe
    assert contents(target.parent)[0] == "merged"


def test_checkpoints_differ_in_their_heads_only(suite, recipe, tmp_path):
    target = export(recipe, suite, tmp_path / "merged")
    low, high = (load_file(target / task / "model.safetensors") for task in ("low", "high"))
    differing = {name for name in low if not low[name].equal(high[name])}
    assert differing == {"classifier.weight", "classifier.bias"}


def test_the_card_names_suite_layers_and_scores(suite, recipe, tmp_path):
    scores = {"search": {"low": 0.5, "high": 0.25}, "test": {"low": 0.125, "high": 1.0}}
    card = (export(recipe, suite, tmp_path / "merged", scores) / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front == {"library_name": "transformers", "tags": ["merge", "merge_gym"],
                     "license": "bsd-3-clause", "pipeline_tag": "image-classification"}  # fmt: skip
    assert f"suite `tiny` (digest `{suite.digest}`)" in card
    for position, layer in enumerate(recipe.segments[0][1]):
        assert f"| layers | {position} | {layer.index} | {layer.source} |" in card
    assert "| low | search | 60 | 0.5000 |" in card
    assert "| high | test | 80 | 1.0000 |" in card
    assert "not scored" not in card


def test_without_scores_the_card_says_so(suite, recipe, tmp_path):
    card = (export(recipe, suite, tmp_path / "merged") / "README.md").read_text()
    assert "not scored" in card


def test_an_empty_recipe_is_exported(suite, bank, tmp_path):
    target = export(Recipe.from_actions([SKIP] * 3, bank), suite, tmp_path / "merged")
    assert json.loads((target / "low" / "config.json").read_text())["num_hidden_layers"] == 0


def test_an_expert_without_processor_is_exported_without(suite, recipe, tmp_path):
    bare = {name: dataclasses.replace(e, processor=None) for name, e in suite.experts.items()}
    target = export(recipe, dataclasses.replace(suite, experts=bare), tmp_path / "merged")
    assert contents(target / "low") == ["config.json", "model.safetensors"]


def test_an_earlier_export_is_replaced_whole(suite, bank, recipe, tmp_path):
    target = export(recipe, suite, tmp_path / "merged")
    (target / "low" / "left-over.txt").touch()
    other = Recipe.uniform("high", bank)
    export(other, suite, target)
    assert Recipe.from_json((target / "recipe.json").read_text()) == other
    assert not (target / "low" / "left-over.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_an_empty_directory_is_filled(suite, recipe, tmp_path):
    (tmp_path / "merged").mkdir()
    assert (export(recipe, suite, tmp_path / "merged") / "recipe.json").is_file()


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_is_no_export_is_never_replaced(suite, recipe, tmp_path, kind):
    target = tmp_path / "thesis"
    if kind == "directory":
        target.mkdir()
    file = target / "chapter.txt" if kind == "directory" else target
    file.write_text("precious")
    with pytest.raises(FileExistsError, match=r"thesis is there and is no earlier export"):
        export(recipe, suite, target)
    assert file.read_text() == "precious"


@pytest.mark.parametrize("before", [None, "an earlier export"])
def test_a_failure_midway_leaves_everything_as_it_was(
    suite, bank, recipe, tmp_path, monkeypatch, before
):
    """The second of two checkpoints fails, as on a full disk."""
    target = tmp_path / "merged"
    if before:
        export(Recipe.uniform("low", bank), suite, target)
    old = contents(tmp_path)
    put_together = checkpoints.put_together

    def failing(recipe, bank, task):
        if task == "high":
            raise OSError("no space left on device")
        return put_together(recipe, bank, task)

    monkeypatch.setattr(checkpoints, "put_together", failing)
    with pytest.raises(OSError, match="no space left"):
        export(recipe, suite, target)
    assert contents(tmp_path) == old
    if before:
        kept = Recipe.from_json((target / "recipe.json").read_text())
        assert kept == Recipe.uniform("low", bank)


def test_a_recipe_of_another_suite_is_refused_before_anything_is_written(suite, tmp_path):
    foreign = Recipe.uniform("low", LayerBank(two_segment_suite()))
    with pytest.raises(ValueError, match="load the recipe's own suite"):
        export(foreign, suite, tmp_path / "new" / "merged")
    assert list(tmp_path.iterdir()) == []


def test_a_language_model_is_one_checkpoint_in_the_folder_itself(tmp_path):
    config = GPT2Config(vocab_size=30, n_positions=12, n_embd=16, n_layer=2, n_head=2)
    inputs = padded_tokens()
    case = write_case(
        tmp_path, lambda place: GPT2LMHeadModel(config).save_pretrained(place), inputs
    )
    recipe = Recipe.uniform("average", case.bank)
    target = export(recipe, case.suite, tmp_path / "merged")
    assert [str(file.relative_to(target)) for file in target.rglob("*.safetensors")] == [
        "model.safetensors"
    ]
    loaded = AutoModelForCausalLM.from_pretrained(target).eval()
    with torch.inference_mode():
        logits = loaded(**inputs).logits
        assert torch.equal(logits, assemble(recipe, case.bank, "two")(**inputs).logits)
    card = (target / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "text-generation"
    assert 'from_pretrained(".")' in card
    export(recipe, case.suite, target)


def test_the_card_names_the_experts_that_are_on_the_hub(suite, bank, recipe, tmp_path):
    low = dataclasses.replace(suite.experts["low"], location="someone/low-digits")
    named = dataclasses.replace(suite, experts={**suite.experts, "low": low})
    card = model_card(recipe, LayerBank(named), {}, None)
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == ["someone/low-digits"]
    assert "| low | `someone/low-digits` |" in card
