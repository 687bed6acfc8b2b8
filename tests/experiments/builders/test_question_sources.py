"""Questions are read, once each, from every kind of source."""

from __future__ import annotations

import numpy as np
import pytest
from omegaconf import OmegaConf

from experiments.builders import question_sources
from experiments.builders.expert_sets import deal_task, sizes
from experiments.builders.question_sources import Questions, read_questions
from tests.experiments.builders.sources import write_bbc


@pytest.fixture(scope="module")
def bbc(tmp_path_factory: pytest.TempPathFactory) -> dict:
    directory = tmp_path_factory.mktemp("sources") / "bbc"
    write_bbc(directory)
    return {
        "title": "news",
        "kind": "bbc",
        "directory": str(directory),
        "get": "",
        "prompt": "{text}?",
        "characters": 200,
        "choices": {"good": " yes", "bad": " no", "never": " never"},
    }


def test_labelled_texts_become_prompts_and_named_classes(bbc: dict) -> None:
    questions = read_questions(bbc)
    assert len(questions) == 30
    assert questions.prompts[0] == "bad the bad £?"
    assert questions.choices[0] == [" no", " yes", " never"]  # classes are in alphabetical order
    assert questions.targets[0] == " no"
    assert questions[np.array([29])].targets == [" never"]


def test_a_text_is_cut_after_its_last_whole_word_and_what_is_alike_then_is_asked_once(bbc: dict):
    questions = read_questions(bbc | {"characters": 14})
    assert list(questions.prompts) == [
        *("bad the bad £?", "bad the very?"),
        *("good the good?", "good the very?"),
        *("never the?", "never the very?"),
    ]


def test_a_class_without_a_choice_is_named(bbc: dict) -> None:
    with pytest.raises(ValueError, match=r"classes are bad, good, never.*not so for never"):
        read_questions(bbc | {"choices": {"good": " yes", "bad": " no"}})


def test_an_unknown_kind_lists_the_known_ones(bbc: dict) -> None:
    with pytest.raises(ValueError, match=r"question source 'bcc'.*bbc"):
        read_questions(bbc | {"kind": "bcc"})


def test_a_part_of_a_source_without_parts_is_refused(bbc: dict) -> None:
    with pytest.raises(ValueError, match="news has no part 'validation'"):
        read_questions(bbc, "validation")


@pytest.fixture
def parted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that has parts, of 8, 8 and 5 questions."""
    sizes = {"train": 8, "validation": 8, "test": 5}

    def read(source, part: str) -> Questions:
        prompts = [f"{part} {number}" for number in range(sizes[part])]
        return Questions(prompts, [["a", "b"]] * len(prompts), np.zeros(len(prompts), np.int64))

    monkeypatch.setitem(question_sources.READERS, "parted", read)


def data(parts: dict[str, str], **sizes: int):
    source = {"kind": "parted", "parts": parts}
    chosen = {"search": 3, "test": 4, "train": 2, "shuffle": 0} | sizes
    return OmegaConf.create({"tasks": {"one": source}, **chosen})


@pytest.mark.usefixtures("parted")
def test_each_split_is_dealt_from_the_part_that_it_names() -> None:
    parts = {"search": "validation", "test": "test", "train": "train"}
    task = deal_task(read_questions, "one", data(parts))
    for split, part in parts.items():
        assert all(prompt.startswith(part) for prompt in task.split(split).prompts)
    assert [len(task.split(split)) for split in parts] == [3, 4, 8]


@pytest.mark.usefixtures("parted")
def test_splits_of_one_part_do_not_overlap() -> None:
    parts = {"search": "validation", "test": "validation", "train": "train"}
    task = deal_task(read_questions, "one", data(parts))
    search, test = task.split("search").prompts, task.split("test").prompts
    assert (len(search), len(test), len({*search, *test})) == (3, 4, 7)


@pytest.mark.usefixtures("parted")
def test_too_small_a_part_is_named() -> None:
    parts = {"search": "validation", "test": "validation", "train": "train"}
    message = r"needs 9 different examples \(data.search \+ data.test\).*8 in its part 'validation'"
    with pytest.raises(ValueError, match=message):
        deal_task(read_questions, "one", data(parts, test=6))


@pytest.mark.usefixtures("parted")
def test_a_task_s_own_sizes_go_before_those_of_all() -> None:
    settings = data({"search": "train", "test": "test", "train": "train"})
    settings.tasks.one.update({"search": 1, "test": None})
    task = deal_task(read_questions, "one", settings)
    assert [len(task.split(split)) for split in ("search", "test", "train")] == [1, 5, 7]
    assert sizes("one", settings) == {"search": 1, "test": None, "train": 2}
    assert len(task.training_rows(None, seed=0)) == 7


def test_questions_of_the_test_part_are_left_out_of_the_others(monkeypatch) -> None:
    prompts = {"train": ["one", "two", "two", "three"], "test": ["two", "four"]}

    def read(source, part: str) -> Questions:
        count = len(prompts[part])
        return Questions(prompts[part], [["a", "b"]] * count, np.zeros(count, np.int64))

    monkeypatch.setitem(question_sources.READERS, "overlapping", read)
    source = {"kind": "overlapping", "parts": {"search": "train", "test": "test", "train": "train"}}
    assert read_questions(source, "train").prompts == ["one", "three"]
    assert read_questions(source, "test").prompts == ["two", "four"]
