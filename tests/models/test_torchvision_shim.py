"""`import torchvision` after the shim: where it works, is absent or was built for another torch."""

import subprocess
import sys

import pytest

from merge_gym.models import torchvision_shim

BUILT_FOR_ANOTHER_TORCH = """
import torch
from torchvision import half_imported
try:
    torch.ops.torchvision.nms, torch.ops.torchvision.qnms
except AttributeError:
    raise RuntimeError("operator torchvision::nms does not exist") from None
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Put a package `torchvision`, given by its __init__, in front of the installed one."""
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(torchvision_shim, "_library", None)
    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        package = tmp_path / "torchvision"
        package.mkdir()
        (package / "__init__.py").write_text(text)
        (package / "half_imported.py").touch()
        return tmp_path

    return write


def test_a_torchvision_that_works_is_left_alone(beside):
    beside("works = True")
    torchvision_shim.install()
    assert torchvision_shim._library is None


def test_an_absent_torchvision_stays_absent(beside, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    torchvision_shim.install()
    assert torchvision_shim._library is None


def test_another_failure_of_torchvision_is_not_hidden(beside):
    beside("raise RuntimeError('out of memory')")
    with pytest.raises(RuntimeError, match="out of memory"):
        torchvision_shim.install()


def test_once_installed_the_shim_does_nothing_more(beside, monkeypatch):
    beside("raise RuntimeError('imported again')")
    monkeypatch.setattr(torchvision_shim, "_library", "schemas")
    torchvision_shim.install()


@pytest.mark.parametrize("shimmed", [True, False])
def test_a_torchvision_built_for_another_torch_can_be_imported_after_the_shim(beside, shimmed):
    """In a process of its own, since schemas can be declared only once in one."""
    directory = beside(BUILT_FOR_ANOTHER_TORCH)
    shim = (
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('shim', {torchvision_shim.__file__!r})\n"
        "shim = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(shim)\n"
        "shim.install()\n"
        "shim.install()\n"
    )
    code = f"import sys; sys.path.insert(0, {str(directory)!r})\n{shim if shimmed else ''}"
    finished = subprocess.run(
        [sys.executable, "-c", code + "import torchvision"], capture_output=True, text=True
    )
    assert (finished.returncode == 0) == shimmed, finished.stderr
