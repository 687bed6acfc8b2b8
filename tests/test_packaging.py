"""What is installed: one package, with every room and program in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from setuptools import Distribution

from merge_gym import command

ROOT = Path(__file__).parents[1]
TOPS = ("merge_gym", "agents", "experiments")


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def imports(file: Path) -> Iterator[str]:
    """The top-level names that a module imports when it is imported."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module.split(".")[0]


def plain(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", one)[0].lower().replace("_", "-") for one in requirements}


def test_every_folder_with_code_is_packaged() -> None:
    setup = project()["tool"]["setuptools"]
    places = {setup["package-dir"].get(name, name.replace(".", "/")) for name in setup["packages"]}
    rooms = {
        str(file.parent.relative_to(ROOT)) for top in TOPS for file in (ROOT / top).rglob("*.py")
    }
    assert places == rooms | {"conf"}
    assert all(name.split(".")[0] == "merge_gym" for name in setup["packages"])


def test_every_file_of_ours_is_in_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    build = Distribution({"script_name": "setup.py"})
    build.parse_config_files(["pyproject.toml"])
    builder = build.get_command_obj("build_py")
    builder.ensure_finalized()
    packed = {str(Path(file).relative_to("build/lib")) for file in builder.get_outputs(False)}
    ours = {
        str(file.relative_to(ROOT))
        for top in (*TOPS, "conf")
        for file in (ROOT / top).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    programs = "merge_gym/programs/"
    assert packed == {file if file.startswith("merge_gym/") else programs + file for file in ours}


def test_what_modules_import_comes_with_the_train_extra() -> None:
    required, of = project()["project"], packages_distributions()
    declared = plain(required["dependencies"] + required["optional-dependencies"]["train"])
    optional = {"builders", "clients"}  # opened only where a suite is built or a client runs
    missing = {
        (name, file.name)
        for top in TOPS
        for file in (ROOT / top).rglob("*.py")
        if file.parent.name not in optional
        for name in imports(file)
        if name not in sys.stdlib_module_names
        and name not in TOPS
        and not plain(of.get(name, [name])) & declared
    }
    assert not missing


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


def test_tab_completion_names_the_programs_and_asks_hydra_for_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["merge-gym", "completion"])
    command.main()
    script = f"""{capsys.readouterr().out}
        merge-gym() {{ echo "$1,$2,$3,$COMP_LINE" ; }}
        complete_line() {{
            COMP_LINE="$*"; COMP_WORDS=($COMP_LINE); COMP_CWORD=$(($# - 1)); _merge_gym
            echo "${{COMPREPLY[@]}}"
        }}
        complete_line merge-gym ta; complete_line merge-gym search search"""
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["tabulate", "search,-sc,query=bash,search search"]


def test_an_unknown_program_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["merge-gym", "trian"])
    with pytest.raises(SystemExit, match=r"unknown program 'trian'. Did you mean 'train'"):
        command.main()
