"""What the inspect program says of a suite, and of one that is wrong."""

from __future__ import annotations

import dataclasses
from io import StringIO
from pathlib import Path
from shutil import copytree

import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from experiments import inspect_suite
from merge_gym import LayerBank, Suite, load_suite
from merge_gym.models.parameters import SHARED, Parameters
from merge_gym.models.storage import on_disk
from tests import tiny_text
from tests.experiments.programs import Completed, call


def text_of(table: Table) -> str:
    console = Console(width=200, file=StringIO())
    console.print(table)
    return console.file.getvalue()


def program(*arguments: str, directory: Path) -> Completed:
    return call("inspect_suite", f"run_dir={directory}", *arguments)


def test_the_overview_names_model_segments_candidates_tasks_and_memory(bank: LayerBank) -> None:
    text = text_of(inspect_suite.overview(bank))
    parameters = bank.suite.pretrained.parameters.layout.size
    assert f"vit, {parameters:,} parameters" in text
    for part in ("3 layers", "ties(density=0.5)", "216 (each layer", "accuracy, expert low"):
        assert part in text
    assert "search: 60 examples, 11 to 13 per class; inputs 1×8×8" in text
    assert "512 MiB  remembered" in text


def test_a_split_of_texts_shows_their_length(tmp_path: Path) -> None:
    task = {"columns": {"input": "text", "choices": "options", "label": "label"}}
    options = ["yes", "no", "one"]
    rows = [{"text": "very " * (n + 1), "options": options, "label": n % 3} for n in range(12)]
    file = tiny_text.write_suite(tmp_path, "gpt2", task | {"metric": "multiple_choice"}, rows)
    found = load_suite(file).tasks["task"]
    assert inspect_suite.split_size(found, "search") == "6 examples, 2 per class; inputs 3×12"


def test_norms_and_cosines_are_those_of_the_checkpoints_tensors(suite, suite_file) -> None:
    files = {
        name: load_file(suite_file.parent / name / "model.safetensors")
        for name in ("pretrained", "low", "high")
    }
    layer = [name for name in files["low"] if ".layer.1." in name]
    flat = {
        name: torch.cat([files[name][key].flatten() for key in layer])
        for name in ("pretrained", "low", "high")
    }
    low, high = (flat[name] - flat["pretrained"] for name in ("low", "high"))
    cosine = float(low @ high / (low.norm() * high.norm()))
    [row] = [
        line
        for line in text_of(inspect_suite.task_vector_table(suite)).splitlines()
        if "layers 1" in line
    ]
    for value in (f"{low.numel():,}", f"{low.norm():.2f}", f"{high.norm():.2f}", f"{cosine:+.3f}"):
        assert value in row


def test_half_precision_task_vectors_do_not_overflow(suite: Suite) -> None:
    vectors = inspect_suite.task_vectors(suite, SHARED)
    assert all(vector.dtype == torch.float32 for vector in vectors.values())


def test_the_picture_joins_only_layers_of_one_segment(tmp_path: Path) -> None:
    task = {"columns": {"input": "text", "target": "other"}, "metric": "exact_match"}
    rows = [{"text": "very " * n, "other": "yes"} for n in range(6)]
    suite = load_suite(tiny_text.write_suite(tmp_path, "t5", task, rows))
    norms, _ = inspect_suite.task_vector_figure(suite).axes
    assert [len(line.get_xdata()) for line in norms.lines] == [2, 2, 1] * len(suite.experts)


def test_the_banks_memory_is_what_its_models_take(bank: LayerBank) -> None:
    for source in bank.candidates.sources:
        bank.parameters(source)
    suite = bank.suite
    taken = [bank.parameters(source).flat for source in bank.candidates.sources]
    taken.append(suite.pretrained.parameters.flat)
    needs = inspect_suite.memory(bank)
    assert needs["bank: pretrained and 5 candidates"] == sum(flat.nbytes for flat in taken)
    assert needs["data"] == 2 * (60 + 80) * 8 * 8 * 4
    layer = suite.pretrained.parameters.layout.span(("layers", 0))
    assert needs["candidates as they are run"] == 5 * 2 * 4 * (layer.stop - layer.start)


def test_weights_that_are_stored_otherwise_are_copied_to_be_run(bank: LayerBank) -> None:
    half = {
        name: dataclasses.replace(
            model, parameters=Parameters(layout, model.parameters.flat.half())
        )
        for name, model in {"": bank.suite.pretrained, **bank.suite.experts}.items()
        for layout in [model.parameters.layout]
    }
    suite = dataclasses.replace(bank.suite, pretrained=half.pop(""), experts=half)
    before, after = inspect_suite.memory(bank), inspect_suite.memory(LayerBank(suite))
    size = bank.suite.pretrained.parameters.layout.size
    run = "candidates as they are run"
    assert after[run] - before[run] == 5 * 4 * size
    stored = "bank: pretrained and 5 candidates"
    assert 2 * after[stored] == before[stored]


def test_weights_in_mapped_files_take_no_memory(bank: LayerBank) -> None:
    suite = dataclasses.replace(bank.suite, allocate=on_disk)
    assert inspect_suite.memory(LayerBank(suite))["bank: pretrained and 5 candidates"] == 0


def test_a_suite_without_tasks_says_so_and_needs_no_memory_to_score(bank: LayerBank) -> None:
    bank = LayerBank(dataclasses.replace(bank.suite, tasks={}))
    assert "none: recipes can be exported, but not scored" in text_of(inspect_suite.overview(bank))
    assert not {"data", "remembered activations and scores"} & inspect_suite.memory(bank).keys()


def test_the_program_prints_and_draws(suite_file: Path, tmp_path: Path) -> None:
    done = program(f"suite={suite_file}", directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "task vectors" in done.stdout
    with Image.open(tmp_path / "task_vectors.png") as picture:
        assert picture.width > 300


def test_the_program_says_everything_that_is_wrong_and_writes_nothing(
    suite_file: Path, tmp_path: Path
) -> None:
    directory = copytree(suite_file.parent, tmp_path / "suite")
    (directory / "high" / "model.safetensors").unlink()
    (directory / "low-test.parquet").unlink()
    file = directory / "tiny.yaml"
    description = yaml.safe_load(file.read_text())
    description["tasks"]["high"]["columns"]["label"] = "digit"
    file.write_text(yaml.safe_dump(description))
    done = program(f"suite={file}", directory=tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("error: 3 things do not fit:\n")
    for part in ("expert 'high'", "low-test.parquet", "no column digit"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", ["operators.bank=[tees]", "suite=nothing"])
def test_a_name_that_is_not_known_is_refused(suite_file: Path, tmp_path: Path, given: str) -> None:
    done = program(f"suite={suite_file}", given, directory=tmp_path)
    assert done.returncode == 1
    assert done.stderr.lower().startswith("error: unknown")
