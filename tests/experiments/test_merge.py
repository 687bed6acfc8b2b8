"""The program that merges without a search."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from experiments.merge import main
from merge_gym import LayerBank, ReferenceEvaluator, load_suite
from merge_gym.recipe import Recipe
from tests.experiments.programs import ROOT


def merge(*overrides: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        main.__wrapped__(compose("merge", list(overrides)))


def test_one_operator_everywhere_and_the_recipe_that_it_left(suite_file, tmp_path, capsys):
    output = tmp_path / "merged"
    operator = "operator={name: ties, density: 0.5}"
    merge(f"suite={suite_file}", operator, f"output={output}")
    said = capsys.readouterr().out
    bank = LayerBank(load_suite(suite_file), operators=[{"name": "ties", "density": 0.5}])
    recipe = Recipe.from_json((output / "recipe.json").read_text())
    assert recipe == Recipe.uniform("ties(density=0.5)", bank)
    scores = ReferenceEvaluator(bank).score(recipe, "test")
    assert f"test: {100 * sum(scores.values()) / 2:.1f} %" in said
    assert (output / "low" / "model.safetensors").is_file()

    merge(f"suite={suite_file}", f"recipe={output / 'recipe.json'}", f"output={tmp_path / 'again'}")
    for task in ("low", "high"):
        weights = [
            (folder / task / "model.safetensors").read_bytes()
            for folder in (output, tmp_path / "again")
        ]
        assert weights[0] == weights[1]
    assert capsys.readouterr().out.splitlines()[:2] == said.splitlines()[:2]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "what is to be merged"),
        (["operator=ties", "recipe=recipe.json"], "what is to be merged"),
        (["operator=tees"], "Did you mean 'ties'"),
        (["recipe=nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_be_merged_is_one_line_and_leaves_nothing(
    suite_file: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        merge(f"suite={suite_file}", f"output={tmp_path / 'merged'}", *overrides)
    assert not (tmp_path / "merged").exists()
