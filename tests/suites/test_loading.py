"""Suite files: what a good one becomes, and the one clear error that each bad one gives."""

import dataclasses
import json
import re
import shutil

import datasets
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from merge_gym import Evaluator, LayerBank, ReferenceEvaluator, list_suites, load_suite
from merge_gym.suites import Split
from merge_gym.suites import data as data_module
from merge_gym.suites import loading as loading_module


@pytest.fixture
def directory(suite_file, tmp_path):
    """A copy of the tiny suite that a test may damage."""
    return shutil.copytree(suite_file.parent, tmp_path / "suite")


def describe(directory, edit):
    """Change the suite file by `edit`, a function of its description."""
    file = directory / "tiny.yaml"
    description = yaml.safe_load(file.read_text())
    edit(description)
    file.write_text(yaml.safe_dump(description, sort_keys=False))
    return file


def reweigh(directory, model, edit):
    """Change a checkpoint's tensors by `edit`, a function of the dictionary of them."""
    file = directory / model / "model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return directory / "tiny.yaml"


def reconfigure(directory, model, **settings):
    file = directory / model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return directory / "tiny.yaml"


def rewrite(directory, file, edit):
    """Change a split's rows by `edit`, a function of the dataset."""
    path = directory / file
    rows = datasets.load_dataset("parquet", data_files=str(path), split="train")
    edit(rows).to_parquet(path)
    return directory / "tiny.yaml"


def test_a_suite_file_becomes_models_tasks_and_bank(suite):
    assert (suite.name, suite.licence) == ("tiny", "BSD-3-Clause")
    assert list(suite.experts) == list(suite.tasks) == ["low", "high"]
    assert suite.adapter.segments == {"layers": 3}
    assert (suite.operators[0], suite.shared) == ("average", "average")
    search = suite.tasks["high"].splits["search"]
    assert search.inputs["pixel_values"].shape == (60, 1, 8, 8)
    assert (search.labels.dtype, len(search)) == (torch.int64, 60)
    assert suite.tasks["high"].expert == "high"


def test_images_go_through_the_experts_own_processor(suite):
    pixels = suite.tasks["low"].splits["search"].inputs["pixel_values"]
    assert (pixels.min(), pixels.max()) == (-1, pytest.approx(2 * 254 / 255 - 1))


def test_a_split_is_indexed_in_step(suite):
    split = suite.tasks["low"].splits["search"]
    part = split[[3, 1]]
    assert isinstance(part, Split)
    assert torch.equal(part.labels, split.labels[[3, 1]])
    assert torch.equal(part.inputs["pixel_values"], split.inputs["pixel_values"][[3, 1]])


def test_operators_shared_source_and_metric_may_be_left_out(directory):
    def edit(description):
        for field in ("operators", "shared", "licence", "description"):
            del description[field]
        del description["tasks"]["low"]["metric"]

    suite = load_suite(describe(directory, edit))
    assert (suite.operators, suite.shared) == (("average", "task_arithmetic", "ties"), "average")
    assert suite.tasks["low"].metric == "accuracy"


def test_a_suite_is_found_by_its_name_among_the_shipped_ones(directory, monkeypatch):
    monkeypatch.setattr(loading_module, "SHIPPED", directory.parent)
    assert list_suites() == ("tiny",)
    assert load_suite("tiny").name == "tiny"


@pytest.mark.parametrize("tasks", ["left out", {}, None])
def test_without_tasks_experts_need_neither_head_nor_processor_and_nothing_is_scored(
    directory, tasks
):
    def edit(description):
        if tasks == "left out":
            del description["tasks"]
        else:
            description["tasks"] = tasks

    reweigh(directory, "low", lambda tensors: tensors.pop("classifier.bias"))
    (directory / "low" / "preprocessor_config.json").unlink()
    suite = load_suite(describe(directory, edit))
    assert (suite.tasks, list(suite.heads)) == ({}, ["low", "high"])
    assert suite.experts["low"].head.keys() == {"classifier.weight"}
    bank = LayerBank(suite)
    for evaluator in (Evaluator, ReferenceEvaluator):
        with pytest.raises(ValueError, match="suite tiny has no tasks, so nothing can be scored"):
            evaluator(bank)


def test_only_the_experts_that_tasks_use_need_a_head(directory):
    reweigh(directory, "low", lambda tensors: tensors.pop("classifier.bias"))
    suite = load_suite(describe(directory, lambda d: d["tasks"].pop("low")))
    assert list(suite.heads) == ["high"]


def test_the_path_of_a_suite_file_may_be_relative(directory, monkeypatch):
    monkeypatch.chdir(directory)
    assert load_suite("tiny.yaml").name == "tiny"


def test_loading_twice_gives_the_same_digest(suite, suite_file):
    assert load_suite(str(suite_file)).digest == suite.digest
    assert len(suite.digest) == 16


@pytest.fixture(scope="module")
def digest_of_low(suite_file, tmp_path_factory):
    """The digest of the tiny suite with the task `low` alone."""
    directory = shutil.copytree(suite_file.parent, tmp_path_factory.mktemp("low") / "suite")
    return load_suite(describe(directory, lambda d: d["tasks"].pop("high"))).digest


@pytest.mark.parametrize("what", ["pretrained", "expert", "head", "input", "label", "name"])
def test_the_digest_changes_with_everything_that_a_score_depends_on(directory, digest_of_low, what):
    file = describe(directory, lambda d: d["tasks"].pop("high"))
    if what in ("pretrained", "expert", "head"):
        model = "pretrained" if what == "pretrained" else "low"
        name = (
            "classifier.bias" if what == "head" else "vit.encoder.layer.1.intermediate.dense.bias"
        )
        reweigh(directory, model, lambda tensors: tensors[name].add_(1e-3))
    elif what == "input":
        rewrite(directory, "low-test.parquet", lambda rows: rows.select(range(1, 80)))
    elif what == "label":
        rewrite(
            directory,
            "low-test.parquet",
            lambda rows: rows.map(
                lambda row, i: {"label": row["label"] if i else 4}, with_indices=True
            ),
        )
    else:
        describe(directory, lambda d: d.update(experts={"low": "low", "higher": "high"}))
    assert load_suite(file).digest != digest_of_low


@pytest.mark.parametrize(
    "settings", [{"num_attention_heads": 4}, {"hidden_act": "relu"}, {"layer_norm_eps": 1e-3}]
)
def test_the_digest_changes_with_the_function_that_equal_weights_are_used_in(
    directory, suite, settings
):
    for model in ("pretrained", "low", "high"):
        file = reconfigure(directory, model, **settings)
    changed = load_suite(file)
    assert torch.equal(changed.pretrained.parameters.flat, suite.pretrained.parameters.flat)
    assert changed.digest != suite.digest


def test_the_digest_does_not_depend_on_names_and_words(suite):
    assert (
        dataclasses.replace(suite, name="other", licence="MIT", description="").digest
        == suite.digest
    )


def test_an_unknown_suite_is_refused_with_the_nearest_names(directory, monkeypatch):
    monkeypatch.setattr(loading_module, "SHIPPED", directory.parent)
    with pytest.raises(ValueError, match=r"unknown suite 'tinny'\. Did you mean 'tiny'\?.*\.yaml"):
        load_suite("tinny")


def test_a_suite_file_that_is_not_there_is_refused_by_its_path(tmp_path):
    with pytest.raises(ValueError, match=r"there is no suite file .*absent\.yaml"):
        load_suite(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experts: [", r"tiny\.yaml is not YAML"),
        ("", r"tiny\.yaml: expected a mapping .* got None"),
        ("- name", r"tiny\.yaml: expected a mapping .* got \['name'\]"),
        ("name: tiny", r"tiny\.yaml: lacks pretrained, experts; it needs name"),
    ],
)
def test_a_file_that_is_no_suite_is_refused(tmp_path, text, message):
    file = tmp_path / "tiny.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_suite(file)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(experts={}), r"experts in .*tiny\.yaml: .* got \{\}"),
        (lambda d: d.update(tasks=["low"]), r"tasks in .*: expected .* got \['low'\]"),
        (lambda d: d["tasks"]["low"].pop("expert"), r"tasks\.low in .* lacks expert; it needs"),
        (lambda d: d["tasks"]["low"].pop("columns"), r"tasks\.low in .* lacks columns; it needs"),
        (lambda d: d["tasks"]["low"]["columns"].pop("label"), r"low\.columns in .* lacks label"),
        (lambda d: d["tasks"]["low"]["data"].pop("test"), r"tasks\.low\.data in .* lacks test"),
        (lambda d: d["tasks"]["low"].update(expert="lo"), r"low\.expert in .*expert 'lo'.*'low'\?"),
        (lambda d: d["tasks"]["low"].update(metric="acuracy"), r"metric 'acuracy'.*'accuracy'"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_refused_before_any_model_is_read(
    directory, monkeypatch, edit, message
):
    monkeypatch.setattr(loading_module, "load_checkpoint", pytest.fail)
    with pytest.raises(ValueError, match=message):
        load_suite(describe(directory, edit))


def test_an_expert_that_is_not_there_is_refused_by_name(directory):
    file = describe(directory, lambda d: d["experts"].update(high="./hihg"))
    with pytest.raises(OSError, match=r"expert 'high': .*hihg"):
        load_suite(file)


def test_an_expert_of_another_shape_is_refused_with_the_tensors(directory):
    reconfigure(directory, "high", intermediate_size=24)

    def edit(tensors):
        for name in tensors:
            if ".intermediate." in name:
                tensors[name] = tensors[name][:24].clone()
            elif re.search(r"layer\.\d\.output\.dense\.weight", name):
                tensors[name] = tensors[name][:, :24].clone()

    file = reweigh(directory, "high", edit)
    with pytest.raises(
        ValueError,
        match=r"expert 'high': .*not fine-tuned from the pretrained model"
        r".*layers\.0\.mlp\.fc1\.weight is \[24, 16\] F32 instead of \[32, 16\] F32"
        r".*and 1 more",
    ):
        load_suite(file)


def drop_last_layer(directory, model):
    def edit(tensors):
        for name in [name for name in tensors if ".layer.2." in name]:
            del tensors[name]

    reconfigure(directory, model, num_hidden_layers=2)
    return reweigh(directory, model, edit)


def test_an_expert_with_fewer_layers_is_refused_with_the_tensors_it_lacks(directory):
    with pytest.raises(ValueError, match=r"'high': .*lacks layers\.2\.\S+.*and 8 more"):
        load_suite(drop_last_layer(directory, "high"))


def test_an_expert_with_more_layers_is_refused_with_the_tensors_it_has(directory):
    with pytest.raises(
        ValueError, match=r"'low': .*has layers\.2\.\S+, which the pretrained model lacks"
    ):
        load_suite(drop_last_layer(directory, "pretrained"))


def test_an_expert_of_another_precision_is_no_other_model(directory):
    def edit(tensors):
        for name in tensors:
            tensors[name] = tensors[name].half()

    mixed = load_suite(reweigh(directory, "high", edit))
    models = (mixed.pretrained, *mixed.experts.values())
    assert [model.parameters.flat.dtype for model in models] == [torch.float32] * 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("model", ["pretrained", "high"])
def test_nan_and_inf_are_refused_with_the_tensor_and_the_expert(directory, model, value):
    name = "vit.layernorm.bias"
    file = reweigh(directory, model, lambda tensors: tensors[name].__setitem__(3, value))
    who = "the pretrained model" if model == "pretrained" else f"expert '{model}'"
    with pytest.raises(ValueError, match=rf"{who}: .*{model} holds NaN or Inf in {name}"):
        load_suite(file)


def test_an_absent_data_file_is_refused_by_its_full_path(directory):
    (directory / "low-test.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=rf"no data file {directory}/low-test\.parquet"):
        load_suite(directory / "tiny.yaml")


def test_a_truncated_data_file_is_refused_by_name(directory):
    file = directory / "low-test.parquet"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"low-test\.parquet is empty or damaged: .*[Pp]arquet"):
        load_suite(directory / "tiny.yaml")


def test_a_data_file_of_another_kind_is_refused_with_the_known_ones(directory):
    (directory / "low-test.pkl").touch()
    file = describe(directory, lambda d: d["tasks"]["low"]["data"].update(test="low-test.pkl"))
    with pytest.raises(
        ValueError, match=r"low-test\.pkl is not one of .*: \.parquet, \.csv, \.json"
    ):
        load_suite(file)


def test_an_absent_column_is_refused_with_those_that_are_there(directory):
    file = describe(directory, lambda d: d["tasks"]["low"]["columns"].update(label="digit"))
    with pytest.raises(
        ValueError,
        match=r"search .* and the test split of task 'low': there is no column digit, only",
    ):
        load_suite(file)


def test_an_input_column_without_images_is_refused(directory):
    file = describe(directory, lambda d: d["tasks"]["low"]["columns"].update(input="label"))
    with pytest.raises(ValueError, match=r"column 'label' holds .*int64.*expected images"):
        load_suite(file)


@pytest.mark.parametrize("label", ["three", 3.5, None])
def test_labels_that_are_no_whole_numbers_are_refused(directory, label):
    def edit(rows):
        return rows.remove_columns("label").add_column("label", [label] * len(rows))

    file = rewrite(directory, "low-search.parquet", edit)
    with pytest.raises(
        ValueError, match=r"column 'label' holds .*expected a whole number in each row"
    ):
        load_suite(file)


def test_labels_outside_the_head_are_refused_with_the_labels(directory):
    def edit(rows):
        return rows.map(lambda row: {"label": row["label"] + 3})

    file = rewrite(directory, "high-test.parquet", edit)
    with pytest.raises(
        ValueError,
        match=r"test split of task 'high': there are labels \[5, 6, 7\], but only 5 classes",
    ):
        load_suite(file)


@pytest.mark.parametrize("split", ["search", "test"])
def test_an_empty_split_is_refused(directory, split):
    file = rewrite(directory, f"high-{split}.parquet", lambda rows: rows.select([]))
    with pytest.raises(ValueError, match=rf"high-{split}\.parquet is empty or damaged: .*no data"):
        load_suite(file)


def test_overlapping_splits_are_refused_with_the_number_of_examples(directory):
    rows = datasets.load_dataset(
        "parquet", data_files=str(directory / "low-test.parquet"), split="train"
    ).select(range(3))
    file = rewrite(
        directory,
        "low-search.parquet",
        lambda search: datasets.concatenate_datasets([search, rows.cast(search.features)]),
    )
    with pytest.raises(ValueError, match=r"task 'low': 3 examples .* search and its test split"):
        load_suite(file)


def test_a_csv_of_images_is_refused_in_words(directory):
    (directory / "low-test.csv").write_text("image,label\na.png,1\n")
    file = describe(directory, lambda d: d["tasks"]["low"]["data"].update(test="low-test.csv"))
    with pytest.raises(ValueError, match=r"column 'image' holds .*string.*expected images"):
        load_suite(file)


def test_everything_that_needs_no_weights_is_said_at_once(directory, monkeypatch):
    monkeypatch.setattr(loading_module, "load_checkpoint", pytest.fail)
    reconfigure(directory, "high", hidden_size=24)
    (directory / "low" / "model.safetensors").unlink()
    (directory / "low-test.parquet").unlink()
    file = describe(directory, lambda d: d["tasks"]["high"]["columns"].update(label="digit"))
    with pytest.raises(
        ValueError,
        match=r"4 things do not fit:\n"
        r"- expert 'low': .*low holds no \.safetensors.*\n"
        r"- expert 'high': .*hidden_size is 24.*\n"
        r"- the test split of task 'low': there is no data file .*\n"
        r"- the search .*'high' and the test split of task 'high': there is no column digit",
    ):
        load_suite(file)


def test_everything_that_weights_and_examples_show_is_said_at_once(directory):
    reweigh(directory, "pretrained", lambda tensors: tensors["vit.layernorm.bias"].fill_(torch.nan))
    reweigh(directory, "low", lambda tensors: tensors.pop("classifier.bias"))
    file = rewrite(
        directory,
        "high-test.parquet",
        lambda rows: rows.map(lambda row: {"label": row["label"] + 3}),
    )
    with pytest.raises(
        ValueError,
        match=r"3 things do not fit:\n- the pretrained model: .*NaN.*\n- expert 'low': .*head.*\n"
        r"- the test split of task 'high': there are labels",
    ):
        load_suite(file)


def name_classes(directory, file, names):
    feature = datasets.ClassLabel(names=names)
    return rewrite(directory, file, lambda rows: rows.cast_column("label", feature))


def test_a_class_without_examples_is_refused_by_its_name_before_weights_are_read(
    directory, monkeypatch
):
    monkeypatch.setattr(loading_module, "load_checkpoint", pytest.fail)

    def edit(rows):
        return rows.filter(lambda row: row["label"] != 2)

    rewrite(directory, "low-search.parquet", edit)
    file = name_classes(directory, "low-search.parquet", ["zero", "one", "two", "three", "four"])
    with pytest.raises(ValueError, match=r"search split of task 'low': .*no example .* class two"):
        load_suite(file)


def test_classes_that_are_not_the_heads_are_refused(directory):
    rewrite(directory, "low-search.parquet", lambda rows: rows.filter(lambda r: r["label"] < 4))
    file = name_classes(directory, "low-search.parquet", ["zero", "one", "two", "three"])
    with pytest.raises(ValueError, match=r"its classes are zero, .*three, but the head's LABEL_0"):
        load_suite(file)


def test_classes_in_another_order_than_the_heads_are_refused(directory):
    names = ["zero", "one", "two", "three", "four"]
    reconfigure(directory, "low", id2label=dict(enumerate(names)))
    file = name_classes(directory, "low-search.parquet", names[::-1])
    with pytest.raises(ValueError, match=r"classes are four, .*zero, but the head's zero, one"):
        load_suite(file)


def test_images_are_brought_to_the_channels_of_the_model(directory, suite):
    def edit(rows):
        return rows.map(lambda row: {"image": row["image"].convert("RGB")})

    loaded = load_suite(rewrite(directory, "low-test.parquet", edit))
    before, after = (s.tasks["low"].splits["test"].inputs["pixel_values"] for s in (suite, loaded))
    assert torch.equal(before, after)


def test_the_size_of_a_chunk_changes_no_image(suite_file, suite, monkeypatch):
    monkeypatch.setattr(data_module, "CHUNK", 7)
    for split in ("search", "test"):
        whole, chunks = (
            s.tasks["high"].splits[split].inputs["pixel_values"]
            for s in (suite, load_suite(suite_file))
        )
        assert torch.equal(whole, chunks)


def test_a_pair_of_image_columns_is_refused(directory):
    file = describe(
        directory, lambda d: d["tasks"]["low"]["columns"].update(input=["image", "image"])
    )
    with pytest.raises(ValueError, match=r"column \['image', 'image'\] holds .*expected images"):
        load_suite(file)
