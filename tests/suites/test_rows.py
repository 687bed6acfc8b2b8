"""Where data may lie: files, directories, and datasets as the hub lays them out."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pytest
from PIL import Image

from merge_gym.suites.rows import read_rows

ROWS = {"text": ["a", "b", "c"], "label": [0, 1, 0]}


@pytest.fixture
def table() -> datasets.Dataset:
    return datasets.Dataset.from_dict(ROWS)


@pytest.mark.parametrize(
    ("name", "write"),
    [("rows.parquet", "to_parquet"), ("rows.csv", "to_csv"), ("rows.jsonl", "to_json")],
)
def test_files_of_every_kind_are_read(table, tmp_path, name, write):
    getattr(table, write)(tmp_path / name)
    assert read_rows(name, tmp_path).to_dict() == ROWS


def test_a_part_of_a_file_is_read(table, tmp_path):
    table.to_parquet(tmp_path / "rows.parquet")
    part = read_rows({"path": "rows.parquet", "split": "train[1:]"}, tmp_path)
    assert part["text"][:] == ["b", "c"]


@pytest.fixture
def local(table, tmp_path: Path) -> Path:
    """A dataset of two splits and two configurations, laid out as on the hub."""
    for name, rows in (("plain", table), ("other", table.select([2]))):
        for split in ("train", "validation"):
            rows.to_parquet(tmp_path / "local" / name / f"{split}-00000-of-00001.parquet")
    (tmp_path / "local" / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: plain\n  data_dir: plain\n"
        "- config_name: other\n  data_dir: other\n---\n"
    )
    return tmp_path


def test_a_dataset_directory_is_read_by_configuration_and_split(local):
    place = {"path": "local", "name": "other", "split": "validation"}
    assert read_rows(place, local)["text"][:] == ["c"]


def test_a_slice_of_a_split_is_read(local):
    place = {"path": "local", "name": "plain", "split": "train[:2]"}
    assert read_rows(place, local)["label"][:] == [0, 1]


def test_several_splits_of_which_none_is_named_are_refused(local):
    with pytest.raises(ValueError, match="local has the splits train, validation: name one"):
        read_rows({"path": "local", "name": "plain"}, local)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"path": "local", "name": "plain", "split": "dev"}, 'Unknown split "dev"'),
        (
            {"path": "local", "name": "plane", "split": "train"},
            "cannot be read .*'plane' not found",
        ),
    ],
)
def test_a_configuration_or_split_that_is_not_there_is_refused(local, place, message):
    with pytest.raises(ValueError, match=message):
        read_rows(place, local)


def test_a_saved_dataset_is_read(table, tmp_path):
    datasets.DatasetDict(train=table).save_to_disk(tmp_path / "saved")
    assert read_rows("saved", tmp_path).to_dict() == ROWS


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("split", "texts"),
    [("train", "abc"), ("train[:2]", "ab"), ("train[1:]", "bc"), ("train[2:]+train[:1]", "ca")],
)
def test_a_part_of_a_saved_dataset_is_read(table, tmp_path, whole, split, texts):
    saved = table if whole else datasets.DatasetDict(train=table, validation=table.select([1]))
    saved.save_to_disk(tmp_path / "saved")
    assert read_rows({"path": "saved", "split": split}, tmp_path)["text"][:] == list(texts)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("split", ["validation", "train[", "train[:10%](other)"])
def test_a_split_that_a_saved_dataset_lacks_is_refused(table, tmp_path, whole, split):
    saved = table if whole else datasets.DatasetDict(train=table, test=table)
    saved.save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="saved cannot be read as a dataset: "):
        read_rows({"path": "saved", "split": split}, tmp_path)


@pytest.mark.parametrize("split", ["train[3:]", "train[2:1]"])
def test_a_part_without_rows_is_refused(table, tmp_path, split):
    table.save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"saved has no rows in the split 'train\["):
        read_rows({"path": "saved", "split": split}, tmp_path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("rows.parquet", "to_parquet"), ("rows.csv", "to_csv"), ("many/train.jsonl", "to_json")],
)
def test_a_file_that_was_replaced_is_read_anew_whatever_its_time(table, tmp_path, name, write):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    place = {"path": "many" if "/" in name else name, "split": "train"}
    for labels in ([0, 1, 0], [1, 0, 1]):
        rows = table.remove_columns("label").add_column("label", labels)
        getattr(rows, write)(file)
        os.utime(file, (1_000_000, 1_000_000))
        assert read_rows(place, tmp_path)["label"][:] == labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "images" / name / "0.png")
    return tmp_path


def test_an_image_folder_is_read_with_its_classes(folder):
    rows = read_rows("images", folder)
    assert rows.features["label"].names == ["cat", "dog"]
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == rows["label"][:] == [0, 1]


def test_an_empty_class_folder_is_refused_since_it_shifts_the_labels(folder):
    (folder / "images" / "cow").mkdir()
    with pytest.raises(ValueError, match=r"images has folders without files: cow\..*labels"):
        read_rows("images", folder)


def test_a_directory_without_data_is_refused(tmp_path):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "notes").touch()
    with pytest.raises(ValueError, match="nothing cannot be read as a dataset"):
        read_rows("nothing", tmp_path)


def test_a_hub_name_that_cannot_be_reached_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no directory 'no/such', and no dataset of that"):
        read_rows({"path": "no/such", "split": "train"}, tmp_path)


def test_a_plain_path_is_never_looked_up_on_the_hub(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no data file .*no/such$"):
        read_rows("no/such", tmp_path)


@pytest.mark.parametrize("place", [{"split": "train"}, {"path": "a", "splits": "train"}])
def test_a_mapping_with_other_keys_is_refused(tmp_path, place):
    with pytest.raises(ValueError, match="data is a path or a mapping with path, name, split, got"):
        read_rows(place, tmp_path)


def test_code_of_a_dataset_is_refused_and_not_run(tmp_path):
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted" / "scripted.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="scripted cannot be read as a dataset"):
        read_rows("scripted", tmp_path)
