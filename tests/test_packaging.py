"""What is installed: one package, with every room and program in it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from merge_gym import command

ROOT = Path(__file__).parents[1]


def test_every_folder_with_code_is_packaged() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        setup = tomllib.load(file)["tool"]["setuptools"]
    places = {setup["package-dir"].get(name, name.replace(".", "/")) for name in setup["packages"]}
    rooms = {
        str(file.parent.relative_to(ROOT))
        for top in ("merge_gym", "agents", "experiments")
        for file in (ROOT / top).rglob("*.py")
    }
    assert places == rooms | {"conf"}
    assert all(name.split(".")[0] == "merge_gym" for name in setup["packages"])


def test_every_program_is_there_and_says_what_it_does() -> None:
    for module, what in command.PROGRAMS.values():
        assert (command.place() / "experiments" / f"{module}.py").is_file()
        assert what in command.usage()
    assert max(map(len, command.usage().splitlines())) <= 88


def test_a_program_runs_from_another_directory(tmp_path: Path) -> None:
    code = "import sys; from merge_gym import command; command.main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "search", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "budget: 100" in ran.stdout


def test_an_unknown_program_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["merge-gym", "trian"])
    with pytest.raises(SystemExit, match=r"unknown program 'trian'. Did you mean 'train'"):
        command.main()
