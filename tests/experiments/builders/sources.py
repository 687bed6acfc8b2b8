"""Made-up sources of labelled texts, laid out as the real ones are."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

DOMAINS = ("film", "mail", "one", "two")
NEWS = ("good", "bad", "never")


def write_vader(directory: Path) -> None:
    """Eight sentences of each domain; two of the first have no sentiment."""
    directory.mkdir()
    with tarfile.open(directory / "hutto_ICWSM_2014.tar.gz", "w:gz") as archive:
        for domain in DOMAINS:
            ratings = [0.0 if domain == "film" and n < 2 else (-1) ** n * 1.5 for n in range(8)]
            lines = [
                f"{n}\t{rating}\tthe {domain} is {'very ' * n}{'good' if n % 2 == 0 else 'bad'}\r\n"
                for n, rating in enumerate(ratings)
            ]
            content = "".join(lines).encode()
            entry = tarfile.TarInfo(f"hutto/{domain}_GroundTruth.txt")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def write_bbc(directory: Path) -> None:
    for name in NEWS:
        (directory / name).mkdir(parents=True)
        for number in range(10):
            text = f"{name}\n\nthe   {'very ' * number}{name} £".encode("latin-1")
            (directory / name / f"{number}.txt").write_bytes(text)
    (directory / NEWS[0] / "again.txt").write_bytes(f"{NEWS[0]} the {NEWS[0]} £".encode("latin-1"))


def write_spam(directory: Path) -> None:
    for folder, body in (("easy-ham-1", "a mail"), ("hard-ham-1", "a film"), ("spam-1", "yes")):
        (directory / folder).mkdir(parents=True)
        for number in range(10):
            mail = (
                f"From x\nReceived: by tell-tale\nSubject: one\nContent-Type: text/html\n\n"
                f"<p>{body} &amp;</p> {'no ' * number}"
            )
            (directory / folder / f"{number}.txt").write_text(mail)
            (directory / folder / f"{number}.json").write_text("{}")
