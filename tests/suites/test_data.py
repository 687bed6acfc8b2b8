"""Rows to tensors: images of every depth, damaged ones, and the names of classes."""

from __future__ import annotations

import io
import json
import shutil

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from merge_gym import load_suite
from merge_gym.suites.data import make_split
from merge_gym.suites.rows import read_rows

COLUMNS = {"input": "image", "label": "label"}
NAMES = ["T-shirt/top", "Dress", "Ankle boot", "bag_2", "Coat"]


@pytest.fixture
def expert(suite):
    return suite.experts["low"]


@pytest.fixture
def named(suite_file, tmp_path):
    """The expert whose head names its classes, in a file that has them in another order."""
    directory = shutil.copytree(suite_file.parent, tmp_path / "suite")
    config = directory / "low" / "config.json"
    names = {str(number): NAMES[number] for number in (3, 1, 0, 4, 2)}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"id2label": names}))
    return load_suite(directory / "tiny.yaml").experts["low"]


def encoded(image, kind="PNG"):
    content = io.BytesIO()
    image.save(content, kind)
    return {"bytes": content.getvalue(), "path": None}


def image_rows(images, labels=None, feature=None):
    features = {"image": datasets.Image(), "label": feature or datasets.Value("int64")}
    rows = {"image": images, "label": labels or [0] * len(images)}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def pixels(images, expert):
    split = make_split(image_rows(images), COLUMNS, "accuracy", 128, expert)
    return split.inputs["pixel_values"]


GREY = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_image_of_16_bits_is_the_one_of_8_bits(expert, kind):
    deep = encoded(Image.fromarray(GREY.astype(np.uint16) * 257), kind)
    found = pixels([encoded(Image.fromarray(GREY)), deep], expert)
    assert torch.equal(found[0], found[1])
    assert len(found[0].unique()) == len(np.unique(GREY))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_an_image_of_32_bits_is_refused_since_its_white_is_unknown(expert, dtype):
    deep = encoded(Image.fromarray(GREY.astype(dtype)), "TIFF")
    with pytest.raises(ValueError, match=r"row 1, .*numbers of 32 bits.*8 or 16 bits"):
        pixels([encoded(Image.fromarray(GREY)), deep], expert)


@pytest.mark.parametrize(
    "content", [b"", b"no image", encoded(Image.new("L", (64, 64)))["bytes"][:50]]
)
def test_a_broken_image_is_refused_with_its_row_and_file(expert, content):
    broken = {"bytes": content, "path": "broken.png"}
    with pytest.raises(ValueError, match=r"image of row 70, .*\(broken\.png\), cannot be read: "):
        pixels([encoded(Image.fromarray(GREY))] * 70 + [broken], expert)


def test_an_image_that_is_absent_is_refused_with_its_row(expert):
    with pytest.raises(ValueError, match=r"image of row 1, .*\(no file\), cannot be read"):
        pixels([encoded(Image.fromarray(GREY)), None], expert)


def test_images_of_several_sizes_are_refused_where_the_processor_leaves_them(suite_file, tmp_path):
    directory = shutil.copytree(suite_file.parent, tmp_path / "suite")
    file = directory / "low" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_resize": False}))
    expert = load_suite(directory / "tiny.yaml").experts["low"]
    small, large = (encoded(Image.new("L", (size, size))) for size in (8, 9))
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\) and \(1, 9, 9\): bring them"):
        pixels([small] * 64 + [large], expert)


def test_a_processor_that_divides_by_zero_is_refused(suite_file, tmp_path):
    directory = shutil.copytree(suite_file.parent, tmp_path / "suite")
    file = directory / "low" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_std": [0.0]}))
    with pytest.raises(ValueError, match=r"low'.*image processor in .*low makes NaN or Inf"):
        load_suite(directory / "tiny.yaml")


def labels(given, feature, expert):
    rows = image_rows([encoded(Image.fromarray(GREY))] * len(given), given, feature)
    return make_split(rows, COLUMNS, "accuracy", 128, expert).labels.tolist()


@pytest.mark.parametrize("write", [str, str.upper, lambda name: name.replace(" ", "_") + " "])
def test_classes_are_compared_in_the_order_of_their_numbers_however_written(named, write):
    feature = datasets.ClassLabel(names=[write(name) for name in NAMES])
    assert labels([3, 0, 4], feature, named) == [3, 0, 4]


@pytest.mark.parametrize(
    "names", [NAMES[::-1], [*NAMES[:4], "Sandal"], [*NAMES, "Sandal"], NAMES[:4], list("01234")]
)
def test_other_classes_than_the_heads_are_refused(named, names):
    with pytest.raises(ValueError, match=r"its classes are .*, but the head's T-shirt/top, Dress"):
        labels([0, 1], datasets.ClassLabel(names=names), named)


def test_a_head_that_names_no_classes_takes_any(expert):
    assert labels([0, 4], datasets.ClassLabel(names=NAMES), expert) == [0, 4]


def test_the_names_of_the_heads_classes_are_labels(named):
    assert labels(["Coat", "Dress", "bag_2"], datasets.Value("string"), named) == [4, 1, 3]


def test_names_that_the_head_does_not_know_are_refused(named):
    with pytest.raises(ValueError, match=r"or one of .*T-shirt/top, .*Coat.*: got 'Sandal'"):
        labels(["Coat", "Sandal"], datasets.Value("string"), named)


def test_labels_beyond_64_bits_are_refused_as_all_outside_the_head_are(expert):
    table = {"image": ["not looked at"], "label": pyarrow.array([2**63 + 1], pyarrow.uint64())}
    rows = datasets.Dataset(pyarrow.table(table))
    with pytest.raises(ValueError, match=r"labels \[9223372036854775809\], but only 5 classes"):
        make_split(rows, COLUMNS, "accuracy", 128, expert)


def test_only_the_input_column_is_decoded(expert):
    rows = image_rows([encoded(Image.fromarray(GREY))])
    other = {"bytes": b"no image", "path": None}
    rows = rows.add_column("other", [other]).cast_column("other", datasets.Image())
    split = make_split(rows, COLUMNS, "accuracy", 128, expert)
    assert split.inputs["pixel_values"].shape == (1, 1, 8, 8)


def write_paths(file, place):
    """A parquet of one image that is there and one that is only a path."""
    rows = image_rows([encoded(Image.fromarray(GREY)), {"bytes": None, "path": str(place)}])
    # `to_parquet` would open the file.
    pyarrow.parquet.write_table(rows.data.table.cast(rows.features.arrow_schema), file)


@pytest.mark.parametrize("place", ["/etc/passwd", "secret.png", "https://example.org/a.png"])
def test_a_parquet_that_names_files_instead_of_holding_images_is_refused(tmp_path, place):
    write_paths(tmp_path / "rows.parquet", place)
    with pytest.raises(ValueError, match=rf"'image' names the file '{place}' instead of holding"):
        read_rows("rows.parquet", tmp_path)


def test_a_dataset_may_name_files_in_its_own_directory_only(tmp_path, expert):
    (tmp_path / "own").mkdir()
    Image.fromarray(GREY).save(tmp_path / "own" / "0.png")
    write_paths(tmp_path / "own" / "train.parquet", tmp_path / "own" / "0.png")
    rows = read_rows({"path": "own", "split": "train"}, tmp_path)
    assert len(make_split(rows, COLUMNS, "accuracy", 128, expert)) == 2
    write_paths(tmp_path / "own" / "train.parquet", tmp_path / "own" / ".." / "secret.png")
    with pytest.raises(ValueError, match=r"names the file .*secret\.png.* instead of holding"):
        read_rows({"path": "own", "split": "train"}, tmp_path)


def test_a_suite_of_16_bit_images_is_its_8_bit_twin(suite, suite_file, tmp_path):
    directory = shutil.copytree(suite_file.parent, tmp_path / "suite")
    path = directory / "low-test.parquet"
    rows = datasets.load_dataset("parquet", data_files=str(path), split="train")

    def deepen(row):
        deep = Image.fromarray(np.asarray(row["image"]).astype(np.uint16) * 257)
        return {"image": encoded(deep)}

    rows.map(deepen).cast(rows.features).to_parquet(path)
    assert load_suite(directory / "tiny.yaml").digest == suite.digest
