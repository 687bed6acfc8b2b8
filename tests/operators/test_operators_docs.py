"""The documentation of the operators runs and lists them all."""

import doctest
import re
from pathlib import Path

from merge_gym import operators
from tests.operators.worked import ISSUED

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_examples_run():
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0
    assert doctest.testmod(operators).failed == 0


def test_the_table_has_every_issued_operator_and_its_rows_say_the_default_scope():
    rows = re.findall(r"^\| `(\w+)` .*? \| `(\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(dict(rows)) >= ISSUED
    assert rows == sorted((name, operators.get(name).scope) for name, _ in rows)
