"""Rows of public benchmarks as questions with choices: one pure function each.

A function is given a row of the dataset as the Hugging Face hub (or the dataset's own site) has it,
and returns what the model reads, the choices it is to tell apart, and the right one's place. The
wording is ours; what the model is told and asked is that of the prompts which the merging papers
took from the Public Pool of Prompts. It answers with the words of a choice, and is scored by their
log-likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from merge_gym.suites.rows import read_rows

Row = Mapping[str, Any]

NO_YES = ("no", "yes")


class Question(NamedTuple):
    """What is asked, what may be answered, and which of that is right, counted from 0."""

    prompt: str
    choices: tuple[str, ...]
    label: int


def qasc(row: Row) -> Question:
    """QASC: one of eight answers to a question about science, given two facts."""
    choices = tuple(row["choices"]["text"])
    prompt = (
        f"question: {row['question']} choices: {', '.join(choices)} "
        f"facts: {row['fact1']} {row['fact2']}"
    )
    return Question(prompt, choices, row["choices"]["label"].index(row["answerKey"]))


def wiki_qa(row: Row) -> Question:
    """WikiQA: whether a sentence of Wikipedia answers a question."""
    prompt = f"question: {row['question']} sentence: {row['answer']} Does it answer the question?"
    return Question(prompt, NO_YES, int(row["label"]))


def quartz(row: Row) -> Question:
    """QuaRTz: one of two answers about how one quantity changes with another, given a fact."""
    choices = tuple(row["choices"]["text"])
    prompt = f"question: {row['question']} choices: {' or '.join(choices)} fact: {row['para']}"
    return Question(prompt, choices, row["choices"]["label"].index(row["answerKey"]))


def paws(row: Row) -> Question:
    """PAWS: whether two sentences of much the same words mean the same."""
    prompt = f"sentence 1: {row['sentence1']} sentence 2: {row['sentence2']} Do they mean the same?"
    return Question(prompt, NO_YES, int(row["label"]))


def story_cloze(row: Row) -> Question:
    """Story Cloze: the right one of two ends of a story of four sentences."""
    story = " ".join(row[f"InputSentence{number}"] for number in range(1, 5))
    choices = tuple(row[f"RandomFifthSentenceQuiz{number}"] for number in (1, 2))
    prompt = f"story: {story} choices: {' or '.join(choices)} How does it end?"
    return Question(prompt, choices, int(row["AnswerRightEnding"]) - 1)


def winogrande(row: Row) -> Question:
    """Winogrande: which of two names belongs into the gap of a sentence."""
    choices = (row["option1"], row["option2"])
    prompt = f"sentence: {row['sentence']} choices: {' or '.join(choices)} What does _ stand for?"
    return Question(prompt, choices, int(row["answer"]) - 1)


def wsc(row: Row) -> Question:
    """WSC: whether a pronoun in a text refers to a name in it."""
    prompt = (
        f'text: {row["text"]} Does the pronoun "{row["span2_text"]}" refer to {row["span1_text"]}?'
    )
    return Question(prompt, NO_YES, int(row["label"]))


BENCHMARKS: dict[str, Callable[[Row], Question]] = {
    function.__name__: function
    for function in (qasc, wiki_qa, quartz, paws, story_cloze, winogrande, wsc)
}


def read_benchmark(source: Mapping[str, Any], part: str) -> list[Question]:
    """The questions of a part of a benchmark, all with equally many choices.

    Args:
        source: its `kind`, a name in `BENCHMARKS`; in `path` a directory, or the dataset's name on
            the hub; in `name` which of the dataset's configurations; in `get` how to come by it.
        part: a file in that directory, or a split of the dataset.

    Raises:
        FileNotFoundError: the dataset or file is not there.
        ValueError: a dataset that wants its own code to be run, a split or column that is not
            there, a row without a right answer or with another number of choices than the first.
    """
    if source["path"] is None:
        raise FileNotFoundError(f"{source['title']}: expected a path, got None. {source['get']}")
    rows = read_rows(_place(source, part), Path())
    ask = BENCHMARKS[source["kind"]]
    questions: list[Question] = []
    for number, row in enumerate(rows):
        where = f"{source['title']}, row {number} of {part!r}"
        try:
            question = ask(row)
        except KeyError as error:
            raise ValueError(f"{where} has no column {error}, only {', '.join(row)}") from None
        except ValueError:
            raise ValueError(f"{where} has no answer: choose a part that has answers") from None
        questions.append(_checked(question, len((questions or [question])[0].choices), where))
    return questions


def _place(source: Mapping[str, Any], part: str) -> str | dict[str, str]:
    file = Path(source["path"]) / part
    if file.is_file():
        return str(file)
    place = {"path": source["path"], "name": source.get("name"), "split": part}
    return {key: value for key, value in place.items() if value is not None}


def _checked(question: Question, choices: int, where: str) -> Question:
    if len(question.choices) != choices:
        raise ValueError(
            f"{where} has {len(question.choices)} choices, expected {choices} as in the first row"
        )
    if not 0 <= question.label < choices:
        raise ValueError(f"{where} has no answer: choose a part that has answers")
    return question
