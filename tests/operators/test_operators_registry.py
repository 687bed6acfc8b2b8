"""Looking operators up, checking their settings and tensors, and adding one."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from merge_gym import operators
from merge_gym.operators import Range, Weight, registry
from tests.operators.worked import ISSUED, random_models


@pytest.fixture
def empty_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators defined in a test disappear again after it."""
    monkeypatch.setattr(registry, "_OPERATORS", dict(registry._OPERATORS))


def test_every_operator_is_discovered_and_listed_in_order():
    assert set(operators.available()) >= ISSUED
    assert list(operators.available()) == sorted(operators.available())


def test_an_unknown_operator_is_answered_with_the_nearest_names_and_all():
    with pytest.raises(
        ValueError, match=r"unknown operator 'tise'\. Did you mean .*'ties'.* Known: average"
    ):
        operators.get("tise")
    with pytest.raises(ValueError, match=r"unknown operator 'zzzz'\. Known: average"):
        operators.merge("zzzz", torch.ones(1), [torch.ones(1)])


def test_published_scopes_are_the_defaults():
    scopes = {name: operators.get(name).scope for name in ISSUED}
    assert {name for name, scope in scopes.items() if scope == "model"} == {
        "ties", "pcb", "balanced_task_arithmetic",
    }  # fmt: skip
    assert "layer" not in scopes.values()


def test_check_fills_in_the_defaults_with_scope_and_seed():
    assert operators.check("ties", {}, 2) == {
        "density": 0.2, "weight": 1.0, "consensus": "mean", "scope": "model",
    }  # fmt: skip
    assert operators.check("dare", {"seed": 3, "scope": "layer"}, 2) == {
        "density": 0.66, "weight": 1.0, "rescale": "density", "scope": "layer", "seed": 3,
    }  # fmt: skip
    assert operators.check("dare", {}, 2)["seed"] == 0


def test_check_writes_equal_settings_equally():
    one = operators.check("ties", {"density": 1, "weight": [1, 2]}, 2)
    other = operators.check("ties", {"density": np.float32(1), "weight": (1.0, 2.0)}, 2)
    assert one == other
    assert repr(one) == repr(other)
    assert isinstance(operators.check("karcher", {"iterations": np.int64(3)}, 2)["iterations"], int)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("ties", {"densty": 0.2}, "unknown setting .* 'densty'. Did you mean 'density'. Known: "),
        ("ties", {"density": 1.5}, "density is a finite number from 0 to 1, got 1.5"),
        ("ties", {"density": True}, "density is a finite number from 0 to 1, got True"),
        ("ties", {"density": [0.2, 0.2]}, "density is a finite number from 0 to 1, got .0.2, 0.2"),
        ("ties", {"weight": float("nan")}, "weight is a finite number, or a list of 2, .* got nan"),
        ("ties", {"weight": [1.0, 2.0, 3.0]}, "a list of 2, one for each expert, got .1.0, 2.0, 3"),
        ("average", {"weight": -1.0}, "weight is a finite number of at least 0, or .* got -1.0"),
        ("ties", {"consensus": "median"}, "consensus is 'mean' or 'sum', got 'median'"),
        ("ties", {"scope": "block"}, "scope is 'tensor' or 'layer' or 'model', got 'block'"),
        ("iso_c", {"scope": "model"}, "scope is 'tensor', got 'model'"),
        ("ties", {"seed": 1}, "unknown setting .* 'seed'"),
        ("dare", {"seed": -1}, "seed is a whole number from 0 to 4294967295, got -1"),
        ("karcher", {"iterations": 0}, "iterations is a whole number of at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_one_error_that_says_what_to_give(name, given, words):
    with pytest.raises(ValueError, match=words) as problem:
        operators.check(name, given, 2)
    assert f"setting of operator '{name}'" in str(problem.value)


def test_the_number_of_experts_is_checked_before_any_work():
    with pytest.raises(ValueError, match="'slerp' merges exactly 2 experts, but 3 were given"):
        operators.check("slerp", {}, 3)
    with pytest.raises(
        ValueError, match="'model_stock' merges at least 2 experts, but 1 was given"
    ):
        operators.check("model_stock", {}, 1)
    with pytest.raises(ValueError, match="'average' merges at least 1 expert, but 0 were given"):
        operators.merge("average", torch.ones(2), [])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda t: t[:2],
            r"experts\[1\] is \(2, 3\) torch.float32 on cpu but pretrained is \(4, 3\)",
        ),
        (lambda t: t.double(), r"experts\[1\] is \(4, 3\) torch.float64"),
        (
            lambda t: t.index_fill(0, torch.tensor([1]), torch.nan),
            "3 NaN or infinite values out of 12",
        ),
        (
            lambda t: t.where(t != t[0, 0], torch.inf),
            r"experts\[1\] holds 1 NaN or infinite value out of",
        ),
    ],
)
def test_an_expert_that_does_not_fit_is_named(spoil, words):
    pretrained, experts = random_models((4, 3))
    with pytest.raises(ValueError, match=words):
        operators.merge("average", pretrained, [experts[0], spoil(experts[1])])


def test_pretrained_values_are_checked_as_well():
    _, experts = random_models((4, 3))
    with pytest.raises(ValueError, match="pretrained holds 12 NaN"):
        operators.merge("slerp", torch.full((4, 3), torch.nan), experts)
    for unfit in (torch.ones(3, dtype=torch.int64), torch.ones(0)):
        with pytest.raises(ValueError, match="at least one floating-point value"):
            operators.merge("average", unfit, [unfit])


def test_generator_and_seed_exclude_each_other():
    with pytest.raises(ValueError, match="either a generator or a seed"):
        operators.merge("dare", torch.ones(2), [torch.ones(2)], seed=1, generator=torch.Generator())


def test_an_operator_that_does_not_draw_takes_no_generator():
    with pytest.raises(ValueError, match=r"unknown setting .* 'generator'"):
        operators.merge("ties", torch.ones(2), [torch.ones(2)], generator=torch.Generator())


def test_operators_say_which_statistics_they_need():
    needs = {name: operators.get(name).needs for name in ISSUED}
    assert {name: kind for name, kind in needs.items() if kind} == {
        "regmean": "gram", "fisher": "fisher",
    }  # fmt: skip
    assert "statistics" not in operators.check("regmean", {}, 2)
    assert operators.check("fisher", {}, 2) == {"weight": 1.0, "scope": "tensor"}


def test_an_operator_that_needs_no_statistics_takes_none():
    with pytest.raises(ValueError, match=r"unknown setting .* 'statistics'"):
        operators.merge("ties", torch.ones(2), [torch.ones(2)], statistics=[torch.ones(2)])


@pytest.mark.parametrize(
    ("name", "shape", "statistics", "words"),
    [
        ("regmean", (4, 3), [(3, 3)], r"give 2, one per expert, of shape \(3, 3\)"),
        ("regmean", (4, 3), [(4, 4), (4, 4)], r"shapes \[\(4, 4\), .* of shape \(3, 3\)"),
        ("regmean", (3,), [(3, 3), (3, 3)], r"only matrices .* shape \(3,\); leave statistics out"),
        ("fisher", (4, 3), [(4, 3), (3, 4)], r"\(3, 4\)\] were given; .* of shape \(4, 3\)"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(name, shape, statistics, words):
    pretrained, experts = random_models(shape)
    with pytest.raises(ValueError, match=words):
        operators.merge(
            name, pretrained, experts, statistics=[torch.ones(given) for given in statistics]
        )


def test_statistics_that_are_not_finite_are_refused():
    pretrained, experts = random_models((3,))
    with pytest.raises(ValueError, match="'fisher': the statistics hold NaN or infinite"):
        operators.merge(
            "fisher", pretrained, experts, statistics=[torch.ones(3), torch.full((3,), torch.nan)]
        )


def test_scope_may_be_given_to_merge_and_changes_nothing_there():
    pretrained, experts = random_models((8,))
    assert torch.equal(
        operators.merge("ties", pretrained, experts, scope="tensor"),
        operators.merge("ties", pretrained, experts),
    )


@pytest.mark.usefixtures("empty_shelf")
def test_a_new_operator_is_one_decorated_function():
    @operators.operator(scope="layer", experts=(1, 3))
    def first_or_last(
        pretrained: Tensor,
        experts: Sequence[Tensor],
        *,
        which: Literal["first", "last"] = "first",
        weight: Annotated[Weight, Range(0, 2)] | None = None,
        times: Annotated[int, Range(1, 9)] = 1,
        negate: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return experts[0 if which == "first" else -1] * (-times if negate else times)

    found = operators.get("first_or_last")
    assert found.function is first_or_last
    assert found.draws
    assert [setting.kind for setting in found.settings.values()] == [
        "choice",
        "number",
        "integer",
        "flag",
    ]
    assert operators.check("first_or_last", {}, 2) == {
        "which": "first", "weight": None, "times": 1, "negate": False, "scope": "layer", "seed": 0,
    }  # fmt: skip
    values = [torch.ones(2), torch.full((2,), 3.0)]
    settings = {"which": "last", "times": 2, "negate": True}
    merged = operators.merge("first_or_last", values[0], values, **settings)
    assert merged.tolist() == [-6, -6]
    assert operators.check("first_or_last", {"weight": [1, 2]}, 2)["weight"] == (1.0, 2.0)
    with pytest.raises(ValueError, match=r"from 0 to 2, or a list .*, or none, got 3"):
        operators.check("first_or_last", {"weight": 3}, 2)
    with pytest.raises(ValueError, match="negate is true or false, got 'yes'"):
        operators.check("first_or_last", {"negate": "yes"}, 2)


@pytest.mark.usefixtures("empty_shelf")
def test_a_setting_without_default_or_known_type_is_refused_at_once():
    with pytest.raises(TypeError, match="'strength' needs a default"):

        @operators.operator(scope="tensor")
        def no_default(pretrained: Tensor, experts: Sequence[Tensor], *, strength: float) -> Tensor:
            return pretrained

    with pytest.raises(TypeError, match="'strength' needs a default and an annotation"):

        @operators.operator(scope="tensor")
        def odd_type(
            pretrained: Tensor, experts: Sequence[Tensor], *, strength: complex = 1j
        ) -> Tensor:
            return pretrained
