"""A library on disk: the same scores, the stated size, and nothing read that was changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTForImageClassification

import merge_gym
from merge_gym import Evaluator, LayerBank, Library, ReferenceEvaluator, Suite, spaces
from merge_gym.exports.library import LibraryModel
from merge_gym.merging.compression import packed, quantised, restored, unpacked
from merge_gym.merging.router import Router, train_router


def made(suite: Suite, bits: int | None, seed: int = 0) -> tuple[LayerBank, Library]:
    bank = LayerBank(suite, ["average"], shared="average", bits=bits)
    space = spaces.make("modular", bank.candidates)
    library = space.recipe(space.sample(np.random.default_rng(seed)))
    assert isinstance(library, Library)
    return bank, library


def scores(model: LibraryModel, suite: Suite) -> dict[str, float]:
    found = {}
    for task, of in suite.tasks.items():
        split = of.splits["test"]
        told = model.predict(split.inputs, [task] * len(split.labels))
        right = [one[1] == label for one, label in zip(told, split.labels.tolist(), strict=True)]
        found[task] = float(np.mean(right))
    return found


@pytest.mark.parametrize("bits", [None, 8, 4, 2])
def test_what_is_read_again_scores_what_the_engine_and_the_reference_said(
    suite: Suite, tmp_path: Path, bits: int | None
) -> None:
    bank, library = made(suite, bits)
    model = merge_gym.load_library(merge_gym.export_library(library, bank, tmp_path / "library"))
    said = Evaluator(bank, subsets=4).score(library, "test")
    assert said == ReferenceEvaluator(bank, subsets=4).score(library, "test")
    assert scores(model, suite) == said
    tensors = load_file(tmp_path / "library" / "library.safetensors")
    size = sum(of.nbytes for name, of in tensors.items() if not name.startswith("head/"))
    assert library.storage(bank, bits).bytes == size


def test_a_mixed_batch_is_dealt_to_its_chains_and_back(suite: Suite, tmp_path: Path) -> None:
    bank, library = made(suite, 8)
    model = merge_gym.load_library(merge_gym.export_library(library, bank, tmp_path / "library"))
    inputs = {name: of[:6] for name, of in suite.tasks["low"].splits["test"].inputs.items()}
    alone = {task: model.predict(inputs, [task] * 6) for task in model.tasks}
    told = ["low", "high", "low", "high", "high", "low"]
    assert model.predict(inputs, told) == [alone[task][row] for row, task in enumerate(told)]


def test_a_task_is_a_plain_checkpoint(suite: Suite, tmp_path: Path) -> None:
    bank, library = made(suite, None)
    model = merge_gym.load_library(merge_gym.export_library(library, bank, tmp_path / "library"))
    model.save_task("high", tmp_path / "high")
    plain = ViTForImageClassification.from_pretrained(tmp_path / "high").eval()
    inputs = suite.tasks["high"].splits["test"].inputs
    with torch.inference_mode():
        classes = plain(**inputs).logits.argmax(-1).tolist()
    assert model.predict(inputs, ["high"] * len(classes)) == [("high", of) for of in classes]


def test_a_damaged_or_edited_library_is_refused(suite: Suite, tmp_path: Path) -> None:
    bank, library = made(suite, 8)
    folder = merge_gym.export_library(library, bank, tmp_path / "library")
    weights, description = folder / "library.safetensors", folder / "library.json"
    whole, text = weights.read_bytes(), description.read_text()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"library.safetensors is missing or damaged"):
        merge_gym.load_library(folder)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"library.safetensors was changed"):
        merge_gym.load_library(folder)
    weights.write_bytes(whole)
    edited = json.loads(text)
    del edited["modules"][3]
    description.write_text(json.dumps(edited))
    with pytest.raises(ValueError, match="changed"):
        merge_gym.load_library(folder)
    with pytest.raises(ValueError, match="holds no library"):
        merge_gym.load_library(tmp_path)


def test_a_router_for_other_tasks_is_refused_and_nothing_is_written(
    suite: Suite, tmp_path: Path
) -> None:
    bank, library = made(suite, 8)
    router = Router(("low", "middle"), "pixels", "means", 64)
    with pytest.raises(ValueError, match="the router tells low, middle apart"):
        merge_gym.export_library(library, bank, tmp_path / "library", router)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["mlp", "means"])
def test_a_router_tells_apart_what_can_be_told_apart(kind: str) -> None:
    drawn = torch.randn(2, 200, 10, generator=torch.Generator().manual_seed(0))
    features = {"one": drawn[0] + 2, "other": drawn[1] - 2}
    router = train_router(features, "pixels", kind)
    with torch.no_grad():
        assert (router(features["one"]).argmax(1) == 0).float().mean() > 0.95
        assert (router(features["other"]).argmax(1) == 1).float().mean() > 0.95


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_codes_survive_packing_and_rounding_is_within_half_a_step(bits: int) -> None:
    tensor = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    top = 2 ** (bits - 1) - 1
    codes = torch.randint(-top, top + 1, (35,), generator=torch.Generator().manual_seed(2))
    assert torch.equal(unpacked(packed(codes.to(torch.int8), bits), bits, 35), codes.to(torch.int8))
    stored = quantised(tensor, bits)
    near = (restored(stored, (5, 7), bits) - tensor).abs()
    inside = tensor.abs() <= top * stored["scales"][:, None]
    assert (near <= stored["scales"][:, None] / 2 + 1e-6)[inside].all()


def test_a_library_opens_in_a_process_that_imported_nothing_before() -> None:
    code = "import merge_gym; merge_gym.load_library"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
