"""Where a suite's texts come from: directories that the user names, each as its package ships it.

What is missing is said in one error that names what to download and what to set.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email import message_from_string
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge_gym.messages import unknown_name


@dataclass(frozen=True)
class LabelledTexts:
    """Different texts.

    Attributes:
        texts: n of them, white space made single.
        labels: places in `names`, shape (n,).
        names: of the classes.
    """

    texts: list[str]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: NDArray[np.int64]) -> LabelledTexts:
        return LabelledTexts([self.texts[row] for row in rows], self.labels[rows], self.names)


def read_texts(source: Mapping[str, Any]) -> LabelledTexts:
    """All texts of a source, each once.

    Args:
        source: its `kind`, a name in `READERS`, and `directory`, and in `get` how to come
            by that directory.

    Raises:
        FileNotFoundError: the directory is not there, or does not hold what it should.
        ValueError: an unknown kind.
    """
    kind = source["kind"]
    if kind not in READERS:
        raise ValueError(unknown_name("kind of text source", kind, READERS))
    by_class = READERS[kind](source)
    labels: dict[str, int] = {}
    for label, texts in enumerate(by_class.values()):
        for text in texts:
            labels.setdefault(" ".join(text.split()), label)
    labels.pop("", None)
    return LabelledTexts(list(labels), np.array(list(labels.values())), tuple(by_class))


def directory_of(source: Mapping[str, Any], what: str) -> Path:
    """The directory of a source, if `what` (a file or a pattern) is in it."""
    given = source["directory"]
    if given is None or not any(Path(given).glob(what)):
        raise FileNotFoundError(
            f"{source['title']}: expected a directory with {what}, got {given!r}. {source['get']}"
        )
    return Path(given)


def _read_vader(source: Mapping[str, Any]) -> dict[str, list[str]]:
    """Sentences of four domains, as many of each, by the sign of their mean rating."""
    by_class: dict[str, list[str]] = {"negative": [], "positive": []}
    for sentences in _vader_domains(source).values():
        for rating, text in sentences:
            if rating != 0:
                by_class["positive" if rating > 0 else "negative"].append(text)
    return by_class


def _read_vader_domains(source: Mapping[str, Any]) -> dict[str, list[str]]:
    """The same sentences, and those without sentiment, by their domain."""
    return {
        domain: [text for _, text in sentences]
        for domain, sentences in _vader_domains(source).items()
    }


def _vader_domains(source: Mapping[str, Any]) -> dict[str, list[tuple[float, str]]]:
    """Mean ratings and sentences, as many of each domain, by the name of its file."""
    archive = directory_of(source, "hutto_ICWSM_2014.tar.gz") / "hutto_ICWSM_2014.tar.gz"
    end = "_GroundTruth.txt"
    with tarfile.open(archive) as files:
        domains = {
            Path(member.name).name.removesuffix(end): (
                files.extractfile(member).read().decode().splitlines()  # type: ignore[union-attr]
            )
            for member in files
            if member.name.endswith(end)
        }
    smallest = min(map(len, domains.values()))
    return {
        domain: [
            (float(rating), text)
            for _, rating, text in (
                line.split("\t", 2) for line in lines[:: len(lines) // smallest][:smallest]
            )
        ]
        for domain, lines in domains.items()
    }


def _read_bbc(source: Mapping[str, Any]) -> dict[str, list[str]]:
    """Articles, a folder a class."""
    directory = directory_of(source, "*/*.txt")
    return {
        folder.name: [_latin(file) for file in sorted(folder.glob("*.txt"))]
        for folder in sorted(directory.iterdir())
        if folder.is_dir()
    }


def _read_spam_assassin(source: Mapping[str, Any]) -> dict[str, list[str]]:
    """Subject and body of mails; the other headers, which tell the class at once, are left out."""
    directory = directory_of(source, "spam-1/*.txt")
    kinds = {"ham": "*ham*/*.txt", "spam": "spam*/*.txt"}
    return {
        name: [_mail(_latin(file)) for file in sorted(directory.glob(pattern))]
        for name, pattern in kinds.items()
    }


def _mail(raw: str) -> str:
    message = message_from_string(raw)
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    payload = parts[0].get_payload(decode=True) if parts else b""
    body = payload.decode("latin-1") if isinstance(payload, bytes) else ""
    return f"{message['subject'] or ''} {unescape(re.sub('<[^>]*>', ' ', body))}"


def _latin(file: Path) -> str:
    return file.read_text(encoding="latin-1")


READERS: dict[str, Callable[[Mapping[str, Any]], dict[str, list[str]]]] = {
    "vader": _read_vader,
    "vader_domains": _read_vader_domains,
    "bbc": _read_bbc,
    "spam_assassin": _read_spam_assassin,
}
