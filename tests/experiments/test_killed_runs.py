"""Programs that are killed, interrupted, or started twice."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from merge_gym.files import read_lines
from tests.experiments.programs import QUICK, Forked, assert_same_run, call, run

Moment = Callable[[Path], bool]


def trials(count: int) -> Moment:
    return lambda directory: len(read_lines(directory / "trials.jsonl")) >= count


def exists(name: str) -> Moment:
    return lambda directory: (directory / name).exists()


def reporting(directory: Path) -> bool:
    scores = directory / "scores.jsonl"
    return any(entry["split"] == "test" for entry in read_lines(scores))


MOMENTS = {
    "loading": exists(".lock"),
    "searching": trials(5),
    "reporting": reporting,
    "writing": exists("recipe.json"),
}
SETTINGS = {"train": ["agent.epochs=2"], "search": []}


def start(program: str, suite: Path, directory: Path) -> Forked:
    """Begin a run, or go on with it where it can."""
    where = "resume" if (directory / "config.yaml").exists() else "run_dir"
    settings = [*QUICK[program], *SETTINGS[program]]
    return Forked(program, f"suite={suite}", f"{where}={directory}", *settings)


def wait_for(moment: Moment, process: Forked, directory: Path) -> None:
    while process.poll() is None and not moment(directory):
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("program", "moments"), [("train", ["searching"]), ("search", list(MOMENTS))]
)
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    suite_file: Path, tmp_path: Path, program: str, moments: list[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(program, suite_file, whole, *SETTINGS[program])
    was_killed = []
    for moment in moments:
        process = start(program, suite_file, killed)
        wait_for(MOMENTS[moment], process, killed)
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), said
        was_killed.append(process.returncode != 0)
    assert sum(was_killed) >= max(1, len(moments) - 1)  # the last may have ended before it
    process = start(program, suite_file, killed)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "found by" in said
    assert_same_run(whole, killed)
    assert (killed / "checkpoint" / "low" / "config.json").is_file()


def test_a_second_process_on_a_run_is_refused_with_one_line(
    suite_file: Path, tmp_path: Path
) -> None:
    process = start("search", suite_file, tmp_path / "run")
    try:
        wait_for(exists("config.yaml"), process, tmp_path / "run")
        process.send_signal(signal.SIGSTOP)
        for where in ("resume", "run_dir"):
            second = call(
                "search", f"suite={suite_file}", f"{where}={tmp_path / 'run'}", *QUICK["search"]
            )
            assert (second.returncode, second.stderr.count("\n")) == (1, 1)
            said = "in use by another process" if where == "resume" else "already holds a run"
            assert second.stderr.startswith("error: ")
            assert said in second.stderr
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate()
    assert process.returncode == 0


def test_an_interrupted_run_says_in_one_line_how_it_goes_on(
    suite_file: Path, tmp_path: Path
) -> None:
    process = start("search", suite_file, tmp_path / "run")
    wait_for(trials(3), process, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.splitlines()[-1] == f"interrupted; resume={tmp_path / 'run'} goes on with this run"
    assert "Traceback" not in said


def test_a_terminal_sees_how_much_of_the_budget_is_spent(suite_file: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    arguments = [f"suite={suite_file}", f"run_dir={tmp_path / 'run'}", *QUICK["search"]]
    process = Forked("search", *arguments, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the program has ended
            break
        if not part:
            break
        seen += part
    process.communicate()
    os.close(ours)
    assert process.returncode == 0
    assert b"/8.0 evaluations" in seen
    assert b"best" in seen
    assert b"100%" in seen
    assert b"Warning" not in seen
