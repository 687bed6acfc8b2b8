"""Pickled checkpoints as safetensors, and suites of such experts without tasks."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from experiments.convert import convert, main, read_pickle
from merge_gym import LayerBank, Recipe, Suite, export, load_suite
from merge_gym.merging.assembly import assemble
from merge_gym.models import load_checkpoint
from tests import tiny_text
from tests.models.family import PlainProcess, auto, padded_tokens, recipes

from transformers import (  # isort: skip  # after merge_gym.models, which mends torchvision
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    GPT2LMHeadModel,
)

TRUNK = """
import transformers
load = lambda directory: transformers.AutoModel.from_pretrained(directory)
logits = lambda model, inputs: model(**inputs).pooler_output
"""


def pickle(directory: Path, model: torch.nn.Module, config: dict, trunk: str = "") -> Path:
    """Write a checkpoint as old programs did: pickled, with a short config.json and vocab.txt;
    with `trunk` only what is under that prefix, without it."""
    directory.mkdir(parents=True)
    state = model.state_dict()
    if trunk:
        state = {n.removeprefix(trunk): t for n, t in state.items() if n.startswith(trunk)}
    torch.save(state, directory / "pytorch_model.bin")
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "vocab.txt").write_text("\n".join(tiny_text.WORDS))
    return directory


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """A pretrained model with another head, a trunk without prefix, a classifier of three."""
    old = tiny_text.bert().config.to_dict()
    old = {key: old[key] for key in ("vocab_size", "hidden_size", "intermediate_size",
           "num_hidden_layers", "num_attention_heads", "max_position_embeddings")}  # fmt: skip
    torch.manual_seed(0)
    pretrained = BertForMaskedLM(tiny_text.bert().config)
    pickle(tmp_path / "pretrained", pretrained, old)
    pickle(tmp_path / "trunk", tiny_text.bert(), old, trunk="bert.")
    named = {"model_type": "bert", "num_labels": 3, "id2label": {"0": "a", "1": "b"}}
    pickle(tmp_path / "classes", tiny_text.bert(num_labels=3), old | named)
    return tmp_path


@pytest.fixture
def suite(pickled: Path) -> Suite:
    """The same, converted, as a suite without tasks."""
    models = {"pretrained": "bert", "trunk": "bert", "classes": None}
    for name, model_type in models.items():
        convert(pickled / name, pickled / "safe" / name, model_type)
    description = {
        "name": "odd",
        "pretrained": "pretrained",
        "experts": {"trunk": "trunk", "classes": "classes"},
        "operators": ["average", {"name": "ties", "density": 0.5}],
    }
    (pickled / "safe" / "odd.yaml").write_text(yaml.safe_dump(description))
    return load_suite(pickled / "safe" / "odd.yaml")


@pytest.fixture(scope="module")
def plain() -> Iterator[PlainProcess]:
    process = PlainProcess()
    yield process
    process.close()


def test_every_tensor_keeps_name_value_and_dtype(tmp_path: Path) -> None:
    model = tiny_text.bert().half()
    source = pickle(tmp_path / "old", model, model.config.to_dict())
    convert(source, tmp_path / "new")
    converted = load_file(tmp_path / "new" / "model.safetensors")
    assert converted.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(converted[name], tensor)
        assert converted[name].dtype == torch.float16
    assert (tmp_path / "new" / "vocab.txt").read_text() == (source / "vocab.txt").read_text()


def test_tensors_that_share_memory_are_written_apart_and_stay_tied(tmp_path: Path) -> None:
    model = GPT2LMHeadModel(tiny_text.gpt2().config).eval()
    assert model.lm_head.weight is model.transformer.wte.weight
    convert(pickle(tmp_path / "old", model, model.config.to_dict()), tmp_path / "new")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "new").eval()
    tokens = torch.arange(6)[None]
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    assert again.lm_head.weight is again.transformer.wte.weight
    assert load_checkpoint(str(tmp_path / "new")).head == {}


def test_shards_stay_shards(tmp_path: Path) -> None:
    model = tiny_text.bert()
    source = pickle(tmp_path / "old", model, model.config.to_dict(), trunk="bert.")
    state = torch.load(source / "pytorch_model.bin", weights_only=True)
    (source / "pytorch_model.bin").unlink()
    places = {}
    for number, names in enumerate((list(state)[:9], list(state)[9:]), start=1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name] for name in names}, source / file)
        places |= dict.fromkeys(names, file)
    (source / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": places})
    )
    convert(source, tmp_path / "new")
    assert len(list((tmp_path / "new").glob("model-*-of-00002.safetensors"))) == 2
    found = load_checkpoint(str(tmp_path / "new"), need_head=False)
    model.save_pretrained(tmp_path / "whole")
    whole = load_checkpoint(str(tmp_path / "whole"))
    assert torch.equal(found.parameters.flat, whole.parameters.flat)


def test_a_trunk_gets_the_prefix_of_its_architecture(suite: Suite, pickled: Path) -> None:
    names = load_file(pickled / "safe" / "trunk" / "model.safetensors").keys()
    assert all(name.startswith("bert.") for name in names)
    head = suite.experts["trunk"].head
    assert head.keys() == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}


def test_the_number_of_classes_is_the_one_that_old_programs_went_by(
    suite: Suite, pickled: Path
) -> None:
    assert suite.experts["classes"].config.num_labels == 3
    assert "id2label" not in json.loads((pickled / "safe" / "classes" / "config.json").read_text())


def test_the_command_that_a_refusal_names_makes_the_checkpoint_readable(
    pickled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("trunk", "classes"):
        with pytest.raises((ValueError, OSError), match="Convert it") as caught:
            load_checkpoint(str(pickled / name))
        said = re.search(r"python -m experiments\.convert (.*?)(, or .*)?$", str(caught.value))
        assert said is not None
        main(shlex.split(said[1]))
        written = capsys.readouterr().out.strip()
        assert load_checkpoint(written, need_head=False).config.model_type == "bert"


class Evil:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.mark.parametrize("content", [{"weight": Evil()}, {"weight": 3}, [torch.ones(1)], b"\x80"])
def test_a_file_that_holds_more_than_tensors_is_refused_and_nothing_is_run_or_written(
    pickled: Path, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pickled / "classes" / "pytorch_model.bin"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin (is damaged|holds no state dict)"):
        convert(pickled / "classes", pickled / "new")
    assert "ran" not in capsys.readouterr().out
    assert not (pickled / "new").exists()
    assert not list(pickled.glob(".*"))


@pytest.mark.parametrize(
    ("name", "target", "more", "message"),
    [
        ("trunk", "new", (), r"trunk/config\.json names no model_type: give it, as --model-type"),
        ("trunk", "new", ("--model-type", "birt"), "knows no model type 'birt'"),
        ("absent", "new", (), r"absent holds no config\.json"),
        ("classes", "trunk", (), "trunk is there already"),
    ],
)
def test_what_cannot_be_converted_is_one_line(
    pickled: Path, name: str, target: str, more: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit, match=rf"^error: .*{message}.*$"):
        main([str(pickled / name), str(pickled / target), *more])


def test_a_directory_without_pickles_is_refused(pickled: Path) -> None:
    (pickled / "classes" / "pytorch_model.bin").rename(pickled / "classes" / "training_args.bin")
    with pytest.raises(FileNotFoundError, match=r"holds no pytorch_model\*\.bin"):
        convert(pickled / "classes", pickled / "new")


def test_tensors_come_with_memory_of_their_own(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    torch.save({"a": whole[:3], "b": whole[3:], "c": whole.view(2, 3).T}, tmp_path / "x.bin")
    save_file(read_pickle(tmp_path / "x.bin"), tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")["c"].tolist() == whole.view(2, 3).T.tolist()


@torch.inference_mode()
def test_a_merge_without_tasks_is_exported_with_each_experts_head(
    suite: Suite, tmp_path: Path, plain: PlainProcess
) -> None:
    bank, inputs = LayerBank(suite), padded_tokens()
    inputs["input_ids"] = inputs["input_ids"].clamp(max=len(tiny_text.WORDS) - 1)
    save_file(inputs, tmp_path / "inputs.st")
    for name, recipe in (recipes(bank) | {"uniform": Recipe.uniform("ties", bank)}).items():
        target = export(recipe, suite, tmp_path / name)
        logits = assemble(recipe, bank, "classes")(**inputs).logits
        [found] = plain.logits(
            auto(AutoModelForSequenceClassification), [target / "classes"], tmp_path / "inputs.st"
        )
        assert torch.equal(found, logits)
        pooled = assemble(recipe, bank, "trunk")(**inputs).pooler_output
        [found] = plain.logits(TRUNK, [target / "trunk"], tmp_path / "inputs.st")
        assert torch.equal(found, pooled)


def test_the_card_of_a_trunk_says_that_it_is_one(suite: Suite, tmp_path: Path) -> None:
    target = export(Recipe.uniform("average", LayerBank(suite)), suite, tmp_path / "merged")
    card = (target / "README.md").read_text()
    assert "One checkpoint per expert" in card
    assert "(trunk: no head, the trunk alone, for `AutoModel`)" in card
    assert 'AutoModelForSequenceClassification.from_pretrained("classes")' in card
    assert json.loads((target / "trunk" / "config.json").read_text())["architectures"] == [
        "BertModel"
    ]
