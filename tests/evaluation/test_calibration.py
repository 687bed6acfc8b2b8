"""The calibration, with a clock that calls set forward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from merge_gym import Evaluator, LayerBank
from merge_gym.evaluation import calibration
from merge_gym.evaluation.calibration import LONG_CALL, ROUNDS, Setting, calibrate
from merge_gym.evaluation.engine import PLAIN

CPU = torch.device("cpu")


class Machine:
    """Layers that take as long as they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, examples: int = 1000) -> None:
        self.now, self.examples = 0.0, examples
        self.calls: list[Setting] = []
        self.seconds: dict[Setting, float] = {}
        monkeypatch.setattr(calibration.time, "perf_counter", lambda: self.now)

    def prepare(self, setting: Setting) -> tuple[Callable[[], object], int]:
        """One layer, for as many examples as there are."""
        examples = min(setting.chunk, self.examples)

        def call() -> None:
            self.calls.append(setting)
            self.now += examples * self.seconds.get(setting, 1e-4)

        return call, examples


@pytest.mark.parametrize("convolved", [False, True])
def test_the_faster_kind_is_taken_with_the_largest_chunk_near_the_least_time(
    monkeypatch: pytest.MonkeyPatch, convolved: bool
) -> None:
    machine = Machine(monkeypatch)
    for chunk, seconds in {16: 3e-5, 32: 1e-5, 64: 1.05e-5, 128: 1.2e-5}.items():
        machine.seconds[Setting(chunk, convolved)] = seconds
    machine.seconds[Setting(128, not convolved)] = 1.04e-5
    assert calibrate(machine.prepare, (False, True), CPU) == Setting(64, convolved)


def test_a_busy_moment_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    prepare = machine.prepare

    def busy(setting: Setting) -> tuple[Callable[[], object], int]:
        machine.seconds[setting] = 1e-4
        return prepare(setting)

    def quiet(*_: object) -> float:
        if len(machine.calls) > 16:
            machine.seconds |= {Setting(32, True): 1e-5}
        return machine.now

    monkeypatch.setattr(calibration.time, "perf_counter", quiet)
    assert calibrate(busy, (False, True), CPU) == Setting(32, True)


def test_rounds_end_with_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    calibrate(machine.prepare, (False,), CPU)
    assert len(machine.calls) == 4 * (ROUNDS + 1)
    monkeypatch.setattr(calibration, "BUDGET", -1)
    machine.calls.clear()
    calibrate(machine.prepare, (False,), CPU)
    assert len(machine.calls) == 4 * 2


def test_larger_chunks_are_not_tried_once_a_call_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.seconds[Setting(32, False)] = LONG_CALL
    calibrate(machine.prepare, (False,), CPU)
    assert {setting.chunk for setting in machine.calls} == {16, 32}


def test_chunks_larger_than_the_split_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, examples=20)
    calibrate(machine.prepare, (False,), CPU)
    assert {setting.chunk for setting in machine.calls} == {16, 32}


def test_only_float32_on_the_cpu_is_convolved(
    bank: LayerBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = []

    def offer(_: object, kinds: tuple[bool, ...], __: object) -> Setting:
        offered.append(kinds)
        return PLAIN

    monkeypatch.setattr("merge_gym.evaluation.engine.calibrate", offer)
    Evaluator(bank, subsets=6)
    Evaluator(bank, subsets=6, dtype="bfloat16")
    Evaluator(bank, subsets=6, fused=False)
    assert offered == [(False, True), (False,)]
