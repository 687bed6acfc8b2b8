"""The builder of image suites around a checkpoint: a tiny one, data laid out as the real ones."""

from __future__ import annotations

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from experiments.builders import image_suite
from experiments.builders.expert_sets import balanced, deal_task
from experiments.builders.files import Result
from experiments.builders.image_rows import read_image_rows
from merge_gym import load_suite
from tests.experiments.builders.building import build, check_scores, compose_suite, files
from tests.tiny import write_suite
from tests.tiny_timm import save_timm

SUITES = ["cifar10-halves", "cifar100-halves", "cub200-halves", "stanford-dogs-halves", "cub-dogs"]
CLASSES = ("apple", "bear", "cup", "dog")
BIRDS = ("001.Albatross", "002.Bunting", "003.Cardinal")


def encoded(colour: int, size: tuple[int, int], mode: str, kind: str) -> bytes:
    """One of a few noisy images of a colour, as a file."""
    noise = np.random.default_rng(colour).integers(0, 60, (*size[::-1], 3))
    pixels = (noise + 40 * (colour % 4)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As CIFAR-100 lies on the hub. The first training image stands there twice, the second one in
    the test part too."""
    directory = tmp_path_factory.mktemp("cifar")
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "fine_label": datasets.ClassLabel(names=list(CLASSES)),
            "coarse_label": datasets.ClassLabel(names=["things", "animals"]),
        }
    )
    for part, first, count in (("train", 0, 48), ("test", 100, 24)):
        colours = [*range(first, first + count), 0 if part == "train" else 1]
        columns = {
            "img": [{"bytes": encoded(n, (12, 12), "RGB", "png"), "path": None} for n in colours],
            "fine_label": [n % 4 for n in colours],
            "coarse_label": [n % 2 for n in colours],
        }
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(directory / f"{part}-00000-of-00001.parquet")
    return directory


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images of several sizes for each class, some of them grey."""
    directory = tmp_path_factory.mktemp("birds")
    for part, first, count in (("train", 0, 10), ("test", 100, 5)):
        for place, name in enumerate(BIRDS):
            folder = directory / part / name
            folder.mkdir(parents=True)
            for number in range(first, first + count):
                colour, size = 4 * (10 * place + number) + place, (40 + number % 7, 50 - number % 5)
                mode = "L" if number % 5 == 0 else "RGB"
                (folder / f"{number}.jpg").write_bytes(encoded(colour, size, mode, "jpeg"))
    return directory


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "vit"
    torch.manual_seed(0)
    save_timm(directory, "vit_small_patch32_224")
    return directory


@pytest.fixture(scope="module")
def halves(parquet: Path, pretrained: Path) -> DictConfig:
    return compose_suite(
        "suite=cifar100-halves",
        f"pretrained.directory={pretrained}",
        f"data.tasks.first.path={parquet}",
        f"data.tasks.second.path={parquet}",
        "data.tasks.first.classes=[0,2]",
        "data.tasks.second.classes=[2,4]",
        "data.search=6",
        "optimiser.batch_size=8",
        "experts.first.epochs=1",
        "experts.second.epochs=2",
        "seeds=[3]",
    )


@pytest.fixture(scope="module")
def outcome(
    halves: DictConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Result]]:
    output = tmp_path_factory.mktemp("suites") / "halves"
    return output, build(image_suite.build, halves, output)


@pytest.fixture
def built(outcome: tuple[Path, list[Result]]) -> Path:
    return outcome[0]


def test_the_library_loads_what_was_built(built: Path) -> None:
    suite = load_suite(built / "cifar100-halves-3.yaml")
    heads = {name: list(expert.config.id2label.values()) for name, expert in suite.experts.items()}
    assert heads == {"first": ["apple", "bear"], "second": ["cup", "dog"]}
    assert suite.pretrained.dtype == suite.experts["first"].dtype == "F16"
    flats = [model.parameters.flat for model in (suite.pretrained, *suite.experts.values())]
    assert not any(torch.equal(a, b) for n, a in enumerate(flats) for b in flats[:n])
    assert suite.tasks["second"].splits["test"].inputs["pixel_values"].shape == (12, 3, 32, 32)


def test_an_expert_scores_in_the_library_what_the_builder_measured(outcome) -> None:
    directory, results = outcome
    check_scores(results, directory / "cifar100-halves-3.yaml")


def test_whole_image_folders_of_two_domains_become_a_suite(folders, parquet, pretrained, tmp_path):
    config = compose_suite(
        "suite=cub-dogs",
        f"pretrained.directory={pretrained}",
        f"data.tasks.cub.path={folders}",
        f"data.tasks.dogs.path={parquet}",
        "data.tasks.dogs.image=img",
        "data.tasks.dogs.label=fine_label",
        "data.search=6",
        "experts.cub.epochs=1",
        "experts.dogs.epochs=1",
    )
    build(image_suite.build, config, tmp_path / "suite")
    suite = load_suite(tmp_path / "suite" / "cub-dogs-0.yaml")
    assert list(suite.experts["cub"].config.id2label.values()) == list(BIRDS)
    assert {name: len(task.splits["test"]) for name, task in suite.tasks.items()} == {
        "cub": 15,
        "dogs": 25,
    }


def test_a_checkpoint_of_transformers_keeps_its_image_processor(halves, tmp_path) -> None:
    config = halves.copy()
    config.pretrained.directory = str(write_suite(tmp_path / "tiny", layers=1).parent / "low")
    results = build(image_suite.build, config, tmp_path / "suite")
    check_scores(results, tmp_path / "suite" / "cifar100-halves-3.yaml")


def test_images_are_stored_as_they_came(built: Path, parquet: Path) -> None:
    def contents(file: Path, column: str) -> list[bytes]:
        rows = datasets.Dataset.from_parquet(str(file), keep_in_memory=True)
        return [
            row["bytes"] for row in rows.cast_column(column, datasets.Image(decode=False))[column]
        ]

    source = contents(parquet / "test-00000-of-00001.parquet", "img")
    stored = [
        contents(built / "data" / f"{task}-test.parquet", "image") for task in ("first", "second")
    ]
    assert sorted(stored[0] + stored[1]) == sorted(source)


def test_images_come_once_and_those_of_the_test_part_not_in_training(halves: DictConfig) -> None:
    source = halves.data.tasks.first
    train, test = (list(read_image_rows(source, part).encoded()) for part in ("train", "test"))
    assert len(train) == len(set(train)) == 24 - 1
    assert len(test) == 12 + 1
    assert not set(train) & set(test)


def test_search_is_balanced_and_apart_from_training(halves: DictConfig) -> None:
    task = deal_task(read_image_rows, "second", halves.data)
    assert np.bincount(task.split("search").labels).tolist() == [3, 3]
    trained = task.training_rows(None, seed=3)
    assert sorted([*trained, *task.rows["search"]]) == list(range(24))


def test_a_balanced_order_takes_one_of_each_class_in_turn() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    order = balanced(np.array([2, 5, 0, 4, 3, 1]), labels)
    assert order.tolist() == [2, 5, 3, 0, 4, 1]


def test_the_same_settings_give_the_same_files(built, halves, tmp_path) -> None:
    build(image_suite.build, halves, tmp_path / "again")
    assert files(tmp_path / "again") == files(built)


def test_augmented_images_are_shifted_and_half_of_them_mirrored() -> None:
    size = 2 * image_suite.SHIFT
    image = torch.zeros(1, 1, size, size)
    image[..., 10, 5] = 1
    found = image_suite.augmented(image.expand(200, -1, -1, -1), torch.Generator().manual_seed(0))
    assert found.shape == (200, 1, size, size)
    _, _, rows, columns = found.nonzero().T
    assert sorted(set(rows.tolist())) == [8, 9, 10, 11, 12]
    assert sorted(set(columns.tolist())) == [3, 4, 5, 6, 7, 20, 21, 22, 23, 24]
    assert 80 < (columns < 10).sum() < 120


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("model", ["vit-small-patch32", "vit-base-patch16"])
def test_the_papers_suites_are_complete(suite: str, model: str) -> None:
    config = compose_suite(f"suite={suite}", f"pretrained={model}")
    assert config.pretrained.directory.startswith(f"timm/{model.replace('-', '_')}_224.augreg")
    first, second = config.data.tasks.values()
    assert first.path != second.path or first.classes[1] == second.classes[0]
    assert set(config.experts) == set(config.data.tasks)
    assert f"{suite}" == config.name == config.output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.tasks.first.label=label", "there is no column label, only img, fine_label, coarse"),
        ("data.tasks.first.image=fine_label", r"expected images \(datasets.Image\)"),
        ("data.tasks.first.classes=[2,5]", r"has 4 classes; \[2, 5\] are not the numbers"),
        ("data.tasks.first.parts.train=validation", "validation"),
        ("data.search=24", "needs 25 different examples .* the source has 23 in its part 'train'"),
    ],
)
def test_a_source_that_does_not_fit_is_refused_before_anything_is_written(
    halves: DictConfig, tmp_path: Path, override: str, message: str
) -> None:
    config = halves.copy()
    config.merge_with_dotlist([override])
    with pytest.raises(ValueError, match=message):
        build(image_suite.build, config, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretrained.directory=/nowhere"], "/nowhere holds no config.json"),
        ([], "no directory 'timm/vit_small.*on the hub can be had"),
        (["data.tasks.first.path=uoft-cs/cifar100"], "no dataset of that name on the hub"),
    ],
)
def test_what_is_neither_here_nor_on_the_hub_is_said(
    halves: DictConfig, tmp_path: Path, overrides: list[str], message: str
) -> None:
    config = halves.copy()
    config.pretrained = compose_suite("suite=cifar100-halves").pretrained
    config.merge_with_dotlist(overrides)
    with pytest.raises(FileNotFoundError, match=message):
        build(image_suite.build, config, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
