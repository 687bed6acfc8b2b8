"""A recipe as checkpoints that plain transformers loads."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from merge_gym.exports.mergekit_yaml import NotExpressibleError, mergekit_yaml
from merge_gym.exports.model_card import Scores, model_card
from merge_gym.merging.assembly import put_together
from merge_gym.merging.bank import LayerBank
from merge_gym.models.files import copy_processor
from merge_gym.models.weights import quiet
from merge_gym.recipe import Recipe
from merge_gym.suites import Suite


def export(
    recipe: Recipe, suite: Suite, directory: str | Path, scores: Scores | None = None
) -> Path:
    """Write the merged model: one Hugging Face checkpoint per task head, all with the same trunk.

    A suite without tasks gives one per expert; where an expert has no head, only the trunk.
    Architectures without heads (language models) give a single one, in the directory itself.
    The directory holds `<task>/` (config.json with the recipe's depth, model.safetensors in the
    experts' dtype, which transformers loads as float32, tokenizer or image processor),
    `recipe.json`, `mergekit.yaml` where mergekit can express the recipe, and a model card
    `README.md`. It is written under a temporary name and renamed when complete; an earlier export
    that is there is replaced.

    Args:
        recipe: what to build.
        suite: the suite that the recipe was made for.
        directory: where to write.
        scores: {split: {task: metric}} for the model card.

    Returns: the directory.

    Raises:
        ValueError: the recipe was made for another suite.
        FileExistsError: `directory` holds something else than an earlier export.
    """
    bank = LayerBank(suite)
    bank.resolve(recipe)
    target = Path(directory)
    _check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        staged = Path(temporary) / "export"
        bare = [
            task
            for task, place in checkpoint_places(suite, staged).items()
            if _write_checkpoint(recipe, bank, task, place)
        ]
        (staged / "recipe.json").write_text(recipe.to_json())
        try:
            (staged / "mergekit.yaml").write_text(mergekit_yaml(recipe, bank))
            obstacle = None
        except NotExpressibleError as error:
            obstacle = str(error)
        (staged / "README.md").write_text(model_card(recipe, bank, scores or {}, obstacle, bare))
        if target.exists():
            target.rename(Path(temporary) / "replaced")
        staged.rename(target)
    return target


def checkpoint_places(suite: Suite, directory: Path) -> dict[str, Path]:
    """Where an export's checkpoints lie, by task; without heads all tasks have the same one, and
    only the first is named."""
    if suite.adapter.head:
        return {task: directory / task for task in suite.heads}
    return {next(iter(suite.heads)): directory}


def _write_checkpoint(recipe: Recipe, bank: LayerBank, task: str, directory: Path) -> bool:
    """Write one checkpoint; returns whether it is the trunk alone."""
    expert = bank.suite.heads[task]
    model, absent = put_together(recipe, bank, task)
    model.to(expert.parameters.flat.dtype)
    prefix = bank.suite.adapter.unsaved_prefix
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in model.state_dict().items()
        if name not in absent
    }
    with quiet():
        (model.base_model if absent else model).save_pretrained(directory, state_dict=tensors)
    _compute_in_float32(directory / "config.json")
    if expert.processor is not None:
        copy_processor(Path(expert.processor), directory)
    return bool(absent)


def _compute_in_float32(file: Path) -> None:
    """Let a plain load compute in the precision in which recipes are scored; the weights on disk
    keep theirs."""
    config = json.loads(file.read_text())
    for part in (config, *config.values()):
        if isinstance(part, dict) and "dtype" in part:
            part["dtype"] = "float32"
    file.write_text(json.dumps(config, indent=2))


def _check_replaceable(target: Path) -> None:
    if target.is_dir() and ((target / "recipe.json").is_file() or not any(target.iterdir())):
        return
    if target.exists():
        raise FileExistsError(
            f"{target} is there and is no earlier export, which alone would be replaced: name "
            f"another directory"
        )
