"""The searching programs on the tiny suite, in this process and in forks of it."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from agents.episodes import read_episodes
from experiments import running, search, train
from merge_gym.studies.progress import budget_bar

ROOT = Path(__file__).parents[2]
QUICK = {
    "train": ["episodes=12", "top=3", "subsets=5", "baselines=[average]"],
    "search": ["budget=8", "subsets=5", "baselines=[average]"],
}


def configuration(program: str, suite: Path, *overrides: str) -> DictConfig:
    """What the program is asked, as by its command line."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return compose(program, [f"suite={suite}", *QUICK[program], *overrides])


def run(program: str, suite: Path, directory: Path, *overrides: str) -> Path:
    """Run a program in this process; returns the run's folder."""
    directory.mkdir(parents=True, exist_ok=True)
    config = configuration(program, suite, *overrides)
    if program == "train":
        running.execute(config, directory, train.prepare, train.curve)
    else:
        running.execute(config, directory, search.prepare, search.progress, budget_bar)
    return directory


class Forked:
    """A program as by its command line, in a fork of this process: what is imported here, it need
    not import, which is most of what a short run costs.

    Args:
        program: of `experiments`.
        *arguments: of its command line.
        stderr: a file descriptor that it writes to; None for a file that `communicate` reads.

    Attributes:
        returncode: once it has ended; minus the number of the signal that killed it.
    """

    def __init__(self, program: str, *arguments: str, stderr: int | None = None) -> None:
        self._out, self._err = TemporaryFile("w+"), TemporaryFile("w+")  # noqa: SIM115
        self.returncode: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            errors = self._err.fileno() if stderr is None else stderr
            _become(program, arguments, self._out.fileno(), errors)

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._ended(os.WNOHANG)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._pid, number)

    def communicate(self) -> tuple[str, str]:
        """What it wrote to its two outputs by its end."""
        self._ended(0)
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return texts[0], texts[1]

    def _ended(self, how: int) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self._pid, how)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _become(program: str, arguments: Sequence[str], out: int, err: int) -> NoReturn:
    """Be the program from here on."""
    for ours, theirs in ((out, 1), (err, 2)):
        os.dup2(ours, theirs)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = [program, *arguments]
    os.chdir(ROOT)
    sys.settrace(None)  # Hydra takes a coverage tool for a debugger, and shows it every traceback
    signal.signal(signal.SIGINT, signal.default_int_handler)
    GlobalHydra.instance().clear()
    status: Any = 1
    try:
        runpy.run_module(f"experiments.{program}", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code or 0
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@dataclass(frozen=True)
class Completed:
    """What a program gave and said."""

    returncode: int
    stdout: str
    stderr: str


def call(program: str, *arguments: str) -> Completed:
    """Run a program in a fork of this process."""
    running = Forked(program, *arguments)
    said, errors = running.communicate()
    assert running.returncode is not None
    return Completed(running.returncode, said, errors)


def results(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "results.json").read_text())


def found(directory: Path) -> dict[str, Any]:
    """The row of what was found."""
    return next(row for row in results(directory)["rows"] if row["kind"] == "found")


def assert_same_run(one: Path, other: Path) -> None:
    """All that two runs found and tried is equal; their clocks are not looked at."""
    for name in ("results.json", "recipe.json", "trials.jsonl", "study.json"):
        assert (one / name).read_text() == (other / name).read_text(), name
    if (one / "episodes.jsonl").exists():
        assert _episodes(one) == _episodes(other)


def _episodes(directory: Path) -> list[dict[str, Any]]:
    records = read_episodes(directory / "episodes.jsonl")
    return [{**vars(record), "seconds": 0} for record in records]
