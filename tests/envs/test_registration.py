"""What `import merge_gym` does and what it leaves for later."""

import subprocess
import sys

import gymnasium as gym
import pytest

import merge_gym


def run(code):
    """Run `code` in a fresh process and return what it printed."""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_importing_registers_the_env_without_torch():
    code = (
        "import sys, gymnasium, merge_gym\n"
        "assert 'ModelMerge-v0' in gymnasium.registry\n"
        "heavy = {'torch', 'transformers', 'datasets', 'stable_baselines3', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run(code) == "[]"


def test_every_public_name_resolves():
    for name in merge_gym.__all__:
        assert getattr(merge_gym, name) is not None


def test_every_lazily_loaded_name_is_public():
    assert {*merge_gym._HOMES, *merge_gym._MODULES} == {*merge_gym.__all__} - {"__version__"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'merge_gym' has no attribute 'Recipes'"):
        _ = merge_gym.Recipes


def test_make_refuses_an_unknown_suite_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown suite 'fashion'.*Known: .*path of its \.yaml"):
        gym.make("ModelMerge-v0", suite="fashion")
