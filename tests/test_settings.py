"""Settings read from annotations: what each may be, and what is refused."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Annotated, Any, Literal, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_gym.settings import (
    Range,
    Setting,
    Weight,
    check_settings,
    read_setting,
    settings_of_dataclass,
    settings_of_function,
)

Density = Annotated[float, Range(0, 1)]


def read(annotation, default):
    return read_setting("name", annotation, default, "here")


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (float, 1, Setting("name", 1.0, "number")),
        (Density, 0.2, Setting("name", 0.2, "number", Range(0, 1))),
        (int, 3, Setting("name", 3, "integer")),
        (bool, True, Setting("name", True, "flag")),
        (str, "x", Setting("name", "x", "text")),
        (Literal["a", "b"], "b", Setting("name", "b", "choice", choices=("a", "b"))),
        (
            Annotated[int, Range(1)] | None,
            None,
            Setting("name", None, "integer", Range(1), optional=True),
        ),
        (Optional[str], None, Setting("name", None, "text", optional=True)),  # noqa: UP045
        (Weight, 1.0, Setting("name", 1.0, "number", per_expert=True)),
        (
            Annotated[Weight, Range(0)],
            0.3,
            Setting("name", 0.3, "number", Range(0), per_expert=True),
        ),
    ],
)
def test_an_annotation_says_what_a_setting_may_be(annotation, default, expected):
    setting = read(annotation, default)
    assert setting == expected
    assert type(setting.default) is type(expected.default)


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (float, Parameter.empty),
        (None, 1.0),
        (list, []),
        (int | str, 1),
        (Literal[1, 2], 1),
        (Any, 1),
    ],
)
def test_an_annotation_that_does_not_say_it_is_refused(annotation, default):
    with pytest.raises(TypeError, match="here: 'name' needs a default and an annotation"):
        read(annotation, default)


@pytest.mark.parametrize(
    ("annotation", "default"), [(Density, 1.5), (int, 0.5), (float, None), (Literal["a"], "b")]
)
def test_a_default_that_its_annotation_does_not_allow_is_refused(annotation, default):
    with pytest.raises(ValueError, match="here: the default of name is"):
        read(annotation, default)


@pytest.mark.parametrize(
    ("annotation", "default", "given", "canonical"),
    [
        (float, 0.0, np.float32(0.5), 0.5),
        (float, 0.0, 2, 2.0),
        (int, 0, np.int64(2), 2),
        (Density, 0.0, 1, 1.0),
        (Weight, 1.0, [1, 2], (1.0, 2.0)),
        (float | None, 0.0, None, None),
        (Literal["a", "b"], "a", np.str_("b"), "b"),
    ],
)
def test_a_value_takes_its_canonical_type(annotation, default, given, canonical):
    checked = read(annotation, default).check(given, experts=2)
    assert checked == canonical
    assert type(checked) is type(canonical)


@pytest.mark.parametrize(
    ("annotation", "default", "bad", "words"),
    [
        (float, 0.0, True, "a finite number"),
        (float, 0.0, "1", "a finite number"),
        (float, 0.0, math.nan, "a finite number"),
        (float, 0.0, math.inf, "a finite number"),
        (float, 0.0, 10**400, "a finite number"),
        (float, 0.0, None, "a finite number"),
        (float, 0.0, [1.0, 2.0], "a finite number"),
        (Density, 0.0, 1.0001, "a finite number from 0 to 1"),
        (int, 0, 1.0, "a whole number"),
        (int, 0, False, "a whole number"),
        (Annotated[int, Range(1)] | None, None, 0, "a whole number of at least 1, or none"),
        (Annotated[int, Range(high=3)], 1, 4, "a whole number of at most 3"),
        (bool, False, 1, "true or false"),
        (str, "", 1, "a text"),
        (Literal["a", "b"], "a", "c", "'a' or 'b'"),
        (Weight, 1.0, [1.0], "a finite number, or a list of 2, one for each expert"),
        (Weight, 1.0, [], "a list of 2"),
        (Weight, 1.0, [1.0, "2"], "a list of 2"),
        (Annotated[Weight, Range(0)], 1.0, [1.0, -1.0], "a list of 2"),
        (Weight, 1.0, "12", "a list of 2"),
    ],
)
def test_any_other_value_is_refused_with_what_is_expected(annotation, default, bad, words):
    with pytest.raises(ValueError, match=f"^name is .*{words}.*, got "):
        read(annotation, default).check(bad, experts=2)


@given(st.floats(), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_range_holds_what_lies_in_it_and_is_finite(value, low, high):
    inside = math.isfinite(value) and low <= value <= high
    assert (value in Range(low, high)) == inside


KNOWN = {"density": read(Density, 0.2), "rounds": read(int, 1)}


def test_settings_are_checked_by_name():
    assert check_settings("setting", {"rounds": 2, "density": 1}, KNOWN) == {
        "rounds": 2,
        "density": 1.0,
    }
    with pytest.raises(ValueError, match=r"unknown setting of agent 'x' 'densty'.*density"):
        check_settings("setting of agent 'x'", {"densty": 1}, KNOWN)
    with pytest.raises(ValueError, match="setting of agent 'x': name is a whole number"):
        check_settings("setting of agent 'x'", {"rounds": 0.5}, KNOWN)


def test_settings_of_a_function_are_its_keyword_only_arguments():
    def merge(vectors, *, density: Density = 0.2, seed: int = 0, data: Any = None):
        """The annotations are texts here, as in every module with annotations from __future__."""

    found = settings_of_function(merge, but=["data"])
    assert list(found) == ["density", "seed"]
    assert found["density"].range == Range(0, 1)
    with pytest.raises(TypeError, match="merge: 'data' needs"):
        settings_of_function(merge)


def test_settings_of_a_dataclass_are_the_fields_that_it_takes():
    @dataclass
    class Some:
        given: Any = field(metadata={"checked_elsewhere": True})
        groups: Annotated[int, Range(1)] | None = None
        made: float = field(init=False, default=0.0)

    assert list(settings_of_dataclass(Some)) == ["groups"]

    @dataclass
    class Needy:
        groups: int

    with pytest.raises(TypeError, match="Needy: 'groups' needs a default"):
        settings_of_dataclass(Needy)

    @dataclass
    class Child(Some):
        patience: int = 3

    assert list(settings_of_dataclass(Child)) == ["groups", "patience"]


def test_an_error_is_one_sentence_with_what_is_expected_and_what_was_given():
    wanted = "setting of agent 'x': density is a finite number from 0 to 1, got nan"
    known = {"density": read_setting("density", Density, 0.2, "here")}
    with pytest.raises(ValueError, match=wanted):
        check_settings("setting of agent 'x'", {"density": math.nan}, known)


def test_a_list_is_refused_where_nobody_says_how_many_experts_there_are():
    for value in ([], [1.0]):
        with pytest.raises(ValueError, match="name is a finite number"):
            read(Weight, 1.0).check(value)


def test_what_was_given_is_neither_changed_nor_completed():
    given = {"rounds": np.int64(2)}
    assert check_settings("setting", given, KNOWN) == {"rounds": 2}
    assert isinstance(given["rounds"], np.int64)


def test_settings_load_without_torch():
    command = "import sys, merge_gym.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
