"""Where runs are kept: one SQLite file, a transaction for each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from experiments.benchmarking.plan import PROTOCOL
from merge_gym.files import Closing

Curve = tuple[tuple[int, int], ...]

TABLES = """
CREATE TABLE protocol (version TEXT NOT NULL);
CREATE TABLE runs (
    key TEXT PRIMARY KEY, asked TEXT NOT NULL, found INTEGER NOT NULL, spent INTEGER NOT NULL,
    trials INTEGER NOT NULL, curve TEXT NOT NULL, seconds REAL NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        found: where the best recipe stands in the table, of those that were scored on the whole
            search split.
        spent: evaluation cost, in examples.
        trials: how many scores were asked for.
        curve: the evaluation cost at which each better one was found, and where that one stands.
        seconds: of CPU, scoring (looking up) included.
    """

    found: int
    spent: int
    trials: int
    curve: Curve
    seconds: float


class Store(Closing):
    """Results by key; what was added is there after any kill.

    Args:
        file: opened, or made.

    Raises ValueError where the file is no store, or one of another protocol.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, timeout=60)
        try:
            self._open(file)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{file} is no store of benchmark runs ({error})") from None

    def add(self, key: str, asked: object, result: Result) -> None:
        """Keep a run, in place of the one that may be there."""
        values = (
            *(key, json.dumps(asked), result.found, result.spent, result.trials),
            *(json.dumps(result.curve), result.seconds),
        )
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO runs VALUES (?,?,?,?,?,?,?)", values)

    def results(self, keys: Iterable[str]) -> dict[str, Result]:
        """Those of the keys that are there, with what they gave."""
        wanted = set(keys)
        rows = self._connection.execute(
            "SELECT key, found, spent, trials, curve, seconds FROM runs"
        )
        return {
            key: Result(found, spent, trials, tuple(map(tuple, json.loads(curve))), seconds)
            for key, found, spent, trials, curve, seconds in rows
            if key in wanted
        }

    def close(self) -> None:
        self._connection.close()

    def _open(self, file: Path) -> None:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            there = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not there:
                for statement in filter(str.strip, TABLES.split(";")):
                    self._connection.execute(statement)
                self._connection.execute("INSERT INTO protocol VALUES (?)", (PROTOCOL,))
        version = self._connection.execute("SELECT version FROM protocol").fetchone()
        if version != (PROTOCOL,):
            raise ValueError(
                f"{file} holds runs of the protocol {version and version[0]!r}, this is "
                f"{PROTOCOL!r}: name another directory"
            )
