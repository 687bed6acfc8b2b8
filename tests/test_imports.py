"""Who may import whom: downward only, in no circle; and what a table must not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"merge_gym"},  # recipe, settings, messages, files, memory, command
    {"merge_gym.models"},
    {"merge_gym.operators", "merge_gym.suites"},
    {"merge_gym.spaces"},
    {"merge_gym.merging"},
    {"merge_gym.evaluation", "merge_gym.exports"},
    {"merge_gym.rewards"},
    {"merge_gym.envs", "merge_gym.studies"},
    {"agents"},
    {"experiments"},
]
TORCH_FREE = (
    "merge_gym.spaces",
    "merge_gym.envs",
    "merge_gym.evaluation.table",
    "merge_gym.evaluation.table_file",
)


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name, but for the package's own front."""
    found = {}
    for top in ("merge_gym", "agents", "experiments"):
        for file in (ROOT / top).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    del found["merge_gym"]
    return found


MODULES = modules()


def room(name: str) -> str:
    """The folder that a module stands in, as the floors name them."""
    rooms = sorted((room for floor in FLOORS for room in floor), key=len, reverse=True)
    return next(of for of in rooms if name == of or name.startswith(f"{of}."))


def imports(file: Path) -> Iterator[str]:
    """The modules of the project that a file imports when it runs, wherever in it that stands."""
    tree = ast.parse(file.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                if inside in MODULES or node.module in MODULES:
                    yield inside if inside in MODULES else node.module


def test_imports_run_downward_only() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    upward = [
        f"{name} imports {other}"
        for name, file in MODULES.items()
        for other in imports(file)
        if room(other) != room(name) and floor[room(other)] >= floor[room(name)]
    ]
    assert not upward


def test_no_imports_run_in_a_circle() -> None:
    graph = {name: set(imports(file)) - {name} for name, file in MODULES.items()}
    for name, others in graph.items():
        parents = {name[:at] for at, letter in enumerate(name) if letter == "."}
        others -= {parent for parent in parents if parent in MODULES}  # a folder imports its files
    TopologicalSorter(graph).prepare()


def test_environments_are_not_looked_into_from_outside() -> None:
    outside = [name for name, file in MODULES.items() if "unwrapped" in file.read_text()]
    assert all(name.startswith("merge_gym.envs") for name in outside)


@pytest.mark.parametrize("module", TORCH_FREE)
def test_no_torch_is_imported_where_none_is_needed(module: str) -> None:
    names = [name for name in MODULES if name == module or name.startswith(f"{module}.")]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
