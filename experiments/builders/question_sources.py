"""Where a suite's questions come from: texts with choices of which one is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.builders import text_sources
from experiments.builders.benchmark_questions import BENCHMARKS, read_benchmark
from experiments.builders.expert_sets import WHOLE
from experiments.builders.text_sources import read_texts
from merge_gym.messages import unknown_name


@dataclass(frozen=True)
class Questions:
    """Different questions, each with choices of which one is right.

    Attributes:
        prompts: n texts.
        choices: of each prompt, equally many.
        labels: the place of the right choice, shape (n,).
    """

    prompts: Sequence[str]
    choices: Sequence[Sequence[str]]
    labels: NDArray[np.int64]

    @property
    def targets(self) -> list[str]:
        """The right choices."""
        return [texts[label] for texts, label in zip(self.choices, self.labels, strict=True)]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: NDArray[np.int64]) -> Questions:
        return Questions(
            [self.prompts[row] for row in rows],
            [self.choices[row] for row in rows],
            self.labels[rows],
        )


def read_questions(source: Mapping[str, Any], part: str = WHOLE) -> Questions:
    """All questions of a part of a source, each once, but for those that its test part has too.

    Args:
        source: its `kind`, what its reader needs, and if it has parts which are for `search`,
            `test` and `train`.
        part: a name that the source knows; `all` where it has no parts.

    Raises:
        FileNotFoundError: the source is not there, or does not hold what it should.
        ValueError: an unknown kind or part.
    """
    kind = source["kind"]
    if kind not in READERS:
        raise ValueError(unknown_name("kind of question source", kind, READERS))
    questions = READERS[kind](source, part)
    held_out = (source.get("parts") or {}).get("test", part)
    tested = set() if held_out == part else {*_texts(READERS[kind](source, held_out))}
    first: dict[tuple[str, ...], int] = {}
    for row, texts in enumerate(_texts(questions)):
        if texts not in tested:
            first.setdefault(texts, row)
    return questions[np.array(list(first.values()), dtype=np.int64)]


def _texts(questions: Questions) -> Iterator[tuple[str, ...]]:
    """What tells each question from the others."""
    for prompt, choices in zip(questions.prompts, questions.choices, strict=True):
        yield (prompt, *choices)


def _from_labelled_texts(source: Mapping[str, Any], part: str) -> Questions:
    """The first `characters` of each text, to the last whole word, in the template `prompt`; the
    choices are what `choices` calls the classes."""
    if part != WHOLE:
        raise ValueError(f"{source['title']} has no part {part!r}: leave its parts out")
    texts = read_texts(source)
    if unnamed := set(texts.names) ^ set(source["choices"]):
        raise ValueError(
            f"{source['title']}: the classes are {', '.join(texts.names)}; choices has one text "
            f"for each of them, and not so for {', '.join(sorted(unnamed))}"
        )
    choices = [source["choices"][name] for name in texts.names]
    beginnings = [shorten(text, source["characters"], placeholder="") for text in texts.texts]
    prompts = [source["prompt"].format(text=text) for text in beginnings]
    return Questions(prompts, [choices] * len(prompts), texts.labels)


def _from_benchmark(source: Mapping[str, Any], part: str) -> Questions:
    """The rows of a split or file."""
    prompts, choices, labels = zip(*read_benchmark(source, part), strict=True)
    return Questions(prompts, choices, np.array(labels, np.int64))


READERS: dict[str, Callable[[Mapping[str, Any], str], Questions]] = {
    **dict.fromkeys(text_sources.READERS, _from_labelled_texts),
    **dict.fromkeys(BENCHMARKS, _from_benchmark),
}
