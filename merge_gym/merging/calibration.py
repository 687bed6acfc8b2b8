"""What heads can be calibrated."""

from __future__ import annotations

from merge_gym.recipe import Calibration
from merge_gym.suites import Suite


def check_calibration(calibration: Calibration, suite: Suite) -> None:
    """ValueError where the heads of the suite cannot be calibrated so."""
    if not suite.tasks:
        raise ValueError(f"the suite {suite.name} has no tasks, so there are no heads to calibrate")
    if suite.adapter.features is None:
        family = suite.pretrained.config.model_type
        raise ValueError(
            f"the heads of {family} models do not end in a linear layer of their own, into which a "
            f"calibration could be folded: leave heads as they are"
        )
    for name, task in suite.tasks.items():
        there = len(task.splits["search"])
        if calibration.examples > there:
            raise ValueError(
                f"task {name!r} has {there} examples in its search split, calibration asks for "
                f"{calibration.examples}: lower examples"
            )
