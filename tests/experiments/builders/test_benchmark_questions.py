"""Public benchmarks as questions, read from local data of the schemas that the hub has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.builders.benchmark_questions import BENCHMARKS, read_benchmark
from tests.experiments.builders.benchmarks import EIGHT, ROWS, write_csv, write_dataset

ANSWERS = {
    "qasc": "thing C",
    "wiki_qa": "yes",
    "quartz": "colder",
    "paws": "no",
    "story_cloze": "All sang.",
    "winogrande": "Eve",
    "wsc": "no",
}
TOLD = {  # columns whose text the model is to read
    "qasc": ("question", "fact1", "fact2"),
    "wiki_qa": ("question", "answer"),
    "quartz": ("question", "para"),
    "paws": ("sentence1", "sentence2"),
    "story_cloze": ("InputSentence1", "InputSentence4", "RandomFifthSentenceQuiz1"),
    "winogrande": ("sentence", "option1", "option2"),
    "wsc": ("text", "span1_text", "span2_text"),
}


def source(kind: str, path: Path | None, **settings: Any) -> dict[str, Any]:
    return {"kind": kind, "title": kind.upper(), "get": "Get it.", "path": path, **settings}


@pytest.mark.parametrize("kind", BENCHMARKS)
def test_the_right_choice_is_the_one_that_the_row_names(kind: str) -> None:
    question = BENCHMARKS[kind](ROWS[kind])
    assert question.choices[question.label] == ANSWERS[kind]


@pytest.mark.parametrize("kind", BENCHMARKS)
def test_the_model_is_told_what_the_question_is_about_but_not_the_answer(kind: str) -> None:
    row = ROWS[kind]
    prompt = BENCHMARKS[kind](row).prompt
    assert all(str(row[column]) in prompt for column in TOLD[kind])
    others = BENCHMARKS[kind](row | {"label": 1 - row["label"]}) if "label" in row else None
    assert others is None or others.prompt == prompt


@pytest.mark.parametrize("kind", sorted(BENCHMARKS.keys() - {"story_cloze"}))
def test_a_split_of_a_dataset_is_read(kind: str, tmp_path: Path) -> None:
    path = write_dataset(tmp_path / kind, {"train": [ROWS[kind]] * 2})
    assert read_benchmark(source(kind, path), "train") == [BENCHMARKS[kind](ROWS[kind])] * 2


def test_a_configuration_of_a_dataset_is_read(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "many", {"train": [ROWS["wsc"]]}, name="wsc.fixed")
    assert len(read_benchmark(source("wsc", path, name="wsc.fixed"), "train")) == 1


def test_a_file_in_a_directory_is_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "spring 2016.csv", [ROWS["story_cloze"]])
    [question] = read_benchmark(source("story_cloze", tmp_path), "spring 2016.csv")
    assert question.choices[question.label] == "All sang."


@pytest.mark.parametrize(
    ("kind", "change"),
    [("qasc", {"answerKey": ""}), ("winogrande", {"answer": ""}), ("wsc", {"label": -1})],
)
def test_rows_without_an_answer_are_refused(kind: str, change: dict, tmp_path: Path) -> None:
    path = write_dataset(tmp_path / kind, {"train": [ROWS[kind] | change]})
    with pytest.raises(ValueError, match=rf"{kind.upper()}, row 0 of 'train' has no answer"):
        read_benchmark(source(kind, path), "train")


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    row = {key: value for key, value in ROWS["qasc"].items() if key != "fact2"}
    path = write_dataset(tmp_path / "qasc", {"train": [row]})
    with pytest.raises(ValueError, match=r"row 0 of 'train' has no column 'fact2', only id, ques"):
        read_benchmark(source("qasc", path), "train")


def test_questions_with_more_choices_than_others_are_refused(tmp_path: Path) -> None:
    five = {"text": EIGHT[:5], "label": EIGHT[:5]}
    rows = [ROWS["qasc"], ROWS["qasc"] | {"choices": five}]
    path = write_dataset(tmp_path / "qasc", {"train": rows})
    with pytest.raises(ValueError, match=r"row 1 of 'train' has 5 choices, expected 8"):
        read_benchmark(source("qasc", path), "train")


def test_a_dataset_that_must_be_asked_for_says_how(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"STORY_CLOZE: expected a path, got None. Get it."):
        read_benchmark(source("story_cloze", None), "test")
