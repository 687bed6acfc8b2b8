"""Suite files: what each field may be, and that nothing else comes through."""

from __future__ import annotations

import copy
import shutil

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merge_gym import Suite, list_suites, load_suite
from merge_gym.suites.description import read_description
from merge_gym.suites.loading import SHIPPED

TASK = {
    "expert": "one",
    "columns": {"input": "image", "label": "label"},
    "data": {"search": "search.parquet", "test": {"path": "rows", "split": "test"}},
}
SUITE = {
    "name": "small",
    "pretrained": "pretrained",
    "experts": {"one": "one", "two": "two"},
    "tasks": {"first": TASK},
}


@pytest.fixture
def read(tmp_path):
    def read(description):
        file = tmp_path / "small.yaml"
        is_text = isinstance(description, str)
        file.write_text(description if is_text else yaml.safe_dump(description, sort_keys=False))
        return read_description(file)

    return read


def changed(path, value):
    """The suite with the field at a dotted path set."""
    description = copy.deepcopy(SUITE)
    *place, field = path.split(".")
    inner = description
    for name in place:
        inner = inner[name]
    inner[field] = value
    return description


def test_a_file_becomes_typed_values_and_defaults(read):
    suite = read(SUITE)
    task = suite.tasks["first"]
    assert (suite.name, suite.licence, suite.shared) == ("small", "", "average")
    assert suite.operators == ("average", "task_arithmetic", "ties")
    assert (task.expert, task.metric, task.max_length) == ("one", "accuracy", 128)
    assert task.data["test"] == {"path": "rows", "split": "test"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("opertors", r"unknown setting 'opertors'\. Did you mean 'operators'"),
        ("tasks.first.metrics", r"tasks\.first in .*unknown setting 'metrics'.*'metric'"),
        ("tasks.first.columns.labels", r"unknown column for .*'labels'.*'label'"),
        ("tasks.first.data.tests", r"first\.data in .*unknown setting 'tests'.*'test'"),
        ("tasks.first.data.test.splits", r"data\.test in .*unknown setting 'splits'.*'split'"),
    ],
)
def test_an_unknown_setting_at_any_level_is_refused_with_the_nearest(read, path, message):
    with pytest.raises(ValueError, match=message):
        read(changed(path, "average"))


def test_what_stands_in_the_provenance_is_free(read):
    kept = {"seed": 1, "rows": {"any": ["thing"]}}
    assert read(changed("provenance", kept)).provenance == kept


@pytest.mark.parametrize("field", ["name", "description", "licence", "pretrained", "experts.one"])
@pytest.mark.parametrize("value", ["", "  ", 3, 1.5, True, None, ["MIT"], {"a": 1}])
def test_what_is_to_be_a_text_is_refused_otherwise(read, field, value):
    with pytest.raises(ValueError, match=rf"{field} in .*: expected a text, not blank, got"):
        read(changed(field, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks.first.max_length", True, "expected a number of tokens .* got True"),
        ("tasks.first.max_length", 64.0, r"expected a number of tokens .* got 64\.0"),
        ("tasks.first.max_length", 10**20, "from 1 to 1000000, got 1000"),
        ("tasks.first.columns.input", 3, "expected the name of a column.* got 3"),
        ("tasks.first.columns.input", [], r"expected the name of a column.* got \[\]"),
        ("tasks.first.columns", ["image"], r"expected a mapping .* got \['image'\]"),
        ("tasks.first.data.search", 3, "expected a text, not blank, got 3"),
        ("tasks.first.data.test.split", 3, "expected a text, not blank, got 3"),
        ("tasks.first.metric", ["accuracy"], "expected a text"),
        ("operators", "average", "expected a list of operators, got 'average'"),
        ("operators", {"name": "average"}, "expected a list of operators"),
        ("operators", [3], r"operators\.0 in .*expected a name, or a mapping .* got 3"),
        ("operators", ["ties", {"density": 0.5}], r"operators\.1 in .*lacks name"),
        ("operators", [{"name": "ties", 3: 1}], "expected settings by name"),
        ("shared", ["average"], r"shared in .*expected a name, or a mapping"),
        ("shared", {"name": "ties", "weight": float("nan")}, r"shared\.weight .*finite .* nan"),
        ("operators", [{"name": "ties", "weight": [1, 1e39]}], r"weight in .*finite .*1e\+39"),
        ("provenance", "a paper", "provenance in .*expected a mapping, got 'a paper'"),
    ],
)
def test_a_value_of_another_kind_is_refused(read, path, value, message):
    with pytest.raises(ValueError, match=message):
        read(changed(path, value))


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "a/b", "/a", "a\\b", "a\nb", "a\0b", "\ud800", 3, None, "a" * 101]
)
@pytest.mark.parametrize("field", ["experts", "tasks"])
def test_the_name_of_an_expert_or_task_is_one_that_a_folder_can_have(read, field, name):
    entries = {name: "one" if field == "experts" else TASK}
    with pytest.raises(ValueError, match=r"expected names that a folder can have|not YAML"):
        read(changed(field, {**SUITE[field], **entries}))


def test_an_expert_may_be_called_as_the_errors_call_the_pretrained_model(suite_file, tmp_path):
    directory = shutil.copytree(suite_file.parent, tmp_path / "suite")
    file = directory / "tiny.yaml"
    description = yaml.safe_load(file.read_text())
    description["experts"]["the pretrained model"] = "low"
    file.write_text(yaml.safe_dump(description))
    assert "the pretrained model" in load_suite(file).experts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b", "not YAML: 'name' stands twice in one mapping"),
        ("experts: {a: b, a: c}", "'a' stands twice in one mapping"),
        ("name: &a small\nlicence: *a", "it names a value to use it again .*write the value out"),
        ("a: [" * 5000, "not YAML"),
        ("a: 2001-99-99", "not YAML: month must be in"),
        ("a: " + "1" * 5000, "not YAML"),
        ("a: !!python/object:os.system {}", "not YAML: could not determine a constructor"),
        ("!!bool maybe", "not YAML"),
    ],
)
def test_yaml_that_says_something_else_than_it_seems_to_is_refused(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ValueError, match="not YAML"):
        read_description(file)


@pytest.mark.parametrize("path", ["name", "experts", "operators", "tasks.first.metric", "a" * 9999])
def test_a_message_shows_the_beginning_of_a_long_value(read, path):
    with pytest.raises(ValueError, match="…") as caught:
        read(changed(path, ["x" * 10_000] if path in ("name", "experts") else "x" * 10_000))
    assert len(str(caught.value)) < 1000


def test_all_that_is_wrong_is_said_at_once(read):
    description = changed("licence", 3)
    description["opertors"] = []
    description["tasks"]["first"] = {**TASK, "expert": "on", "max_length": 0}
    with pytest.raises(ValueError, match="4 things do not fit") as caught:
        read(description)
    for said in ("licence in", "'opertors'", "expert 'on'", r"max_length in"):
        assert said in str(caught.value)


def test_the_shipped_suites_are_described_well():
    assert len(list_suites()) == len(list(SHIPPED.glob("*/*.yaml"))) == 3
    for file in SHIPPED.glob("*/*.yaml"):
        assert read_description(file).name == file.stem


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["low", "low-search.parquet", ".", "..", "tiny.yaml", "accuracy", "train[:5]"]),
    st.lists(st.sampled_from(["image", "low", 1, None]), max_size=3),
    st.dictionaries(st.sampled_from(["path", "split", "name", "low"]), st.text(max_size=3)),
)


def places(value, place=()):
    yield place
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*place, name))


@st.composite
def mutated(draw, description):
    """A description of which one to three fields are set, renamed or gone."""
    description = copy.deepcopy(description)
    for _ in range(draw(st.integers(1, 3))):
        *place, field = draw(st.sampled_from([p for p in places(description) if p]))
        inner = description
        for name in place:
            inner = inner[name]
        value = inner.pop(field)
        how = draw(st.sampled_from(["gone", "renamed", "set"]))
        if how == "set":
            inner[field] = draw(ODD)
        elif how == "renamed":
            inner[draw(st.text(max_size=5))] = value
        if not description:
            break
    return description


def test_a_mutated_file_gives_a_suite_or_a_clear_error(suite_file, tmp_path):
    directory = shutil.copytree(suite_file.parent, tmp_path / "suite")
    file = directory / "tiny.yaml"
    original = yaml.safe_load(file.read_text())

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mutated(original))
    def fuzz(description):
        file.write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
        try:
            assert isinstance(load_suite(file), Suite)
        except (ValueError, OSError):
            return

    fuzz()
