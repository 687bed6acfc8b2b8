"""One row of every benchmark in the schema that the hub has, and datasets of such rows."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

Row = dict[str, Any]

EIGHT = list("ABCDEFGH")
ROWS: dict[str, Row] = {
    "qasc": {
        "id": "x",
        "question": "What moves water?",
        "choices": {"text": [f"thing {letter}" for letter in EIGHT], "label": EIGHT},
        "answerKey": "C",
        "fact1": "Pumps move water.",
        "fact2": "A heart is a pump.",
        "combinedfact": "Hearts move water.",
        "formatted_question": "What moves water? (A) thing A",
    },
    "wiki_qa": {
        "question_id": "Q1",
        "question": "who wrote it",
        "document_title": "It",
        "answer": "It was written by her.",
        "label": 1,
    },
    "quartz": {
        "id": "x",
        "question": "More sun makes it",
        "choices": {"text": ["warmer", "colder"], "label": ["A", "B"]},
        "answerKey": "B",
        "para": "The sun warms.",
        "para_id": "p",
    },
    "paws": {"id": 1, "sentence1": "A met B .", "sentence2": "B met A .", "label": 0},
    "story_cloze": {
        "InputStoryid": "x",
        **{f"InputSentence{number}": f"Line {number}." for number in range(1, 5)},
        "RandomFifthSentenceQuiz1": "It rained.",
        "RandomFifthSentenceQuiz2": "All sang.",
        "AnswerRightEnding": 2,
    },
    "winogrande": {
        "sentence": "Ann thanked Eve as _ had helped.",
        "option1": "Ann",
        "option2": "Eve",
        "answer": "2",
    },
    "wsc": {
        "text": "Ann thanked Eve as she had helped.",
        "span1_index": 0,
        "span2_index": 4,
        "span1_text": "Ann",
        "span2_text": "she",
        "idx": 0,
        "label": 0,
    },
}


def many(kind: str, count: int) -> list[Row]:
    """Different rows, of which every second has another answer."""
    rows = [{key: _numbered(value, n) for key, value in ROWS[kind].items()} for n in range(count)]
    for row in rows[1::2]:
        row.update(OTHER[kind])
    return rows


def _numbered(value: Any, number: int) -> Any:
    return f"{value} {number}" if isinstance(value, str) and " " in value else value


OTHER: dict[str, Row] = {
    "qasc": {"answerKey": "H"},
    "wiki_qa": {"label": 0},
    "quartz": {"answerKey": "A"},
    "paws": {"label": 1},
    "story_cloze": {"AnswerRightEnding": 1},
    "winogrande": {"answer": "1"},
    "wsc": {"label": 1},
}


def write_dataset(
    directory: Path, splits: Mapping[str, list[Row]], name: str | None = None
) -> Path:
    """A dataset as the hub has it: a parquet file a split, in the folder of its configuration."""
    folder = name or "data"
    (directory / folder).mkdir(parents=True)
    for split, rows in splits.items():
        table = datasets.Dataset.from_list(rows)
        table.to_parquet(directory / folder / f"{split}-00000-of-00001.parquet")
    if name:
        files = "".join(f"  - split: {s}\n    path: {name}/{s}-*\n" for s in splits)
        (directory / "README.md").write_text(
            f"---\nconfigs:\n- config_name: {name}\n  data_files:\n{files}---\n"
        )
    return directory


def write_csv(file: Path, rows: list[Row]) -> None:
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([rows[0].keys(), *(row.values() for row in rows)])
