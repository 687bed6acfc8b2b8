"""A recipe as checkpoints that plain transformers loads."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from merge_gym.assembly import assemble
from merge_gym.bank import LayerBank
from merge_gym.models.files import copy_processor
from merge_gym.models.weights import quiet
from merge_gym.recipe import Recipe
from merge_gym.suites import Suite

Scores = Mapping[str, Mapping[str, float]]


def export(
    recipe: Recipe, suite: Suite, directory: str | Path, scores: Scores | None = None
) -> Path:
    """Write the merged model: one Hugging Face checkpoint per task head, all with the same trunk.

    The directory holds `<task>/` (config.json with the recipe's depth, model.safetensors in the
    experts' dtype, tokenizer or image processor), `recipe.json` and a model card `README.md`. It
    is written under a temporary name and renamed when complete; an earlier export that is there is
    replaced.

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
    bank.check(recipe)
    target = Path(directory)
    _check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        staged = Path(temporary) / "export"
        for task in suite.tasks:
            _write_checkpoint(recipe, bank, task, staged / task)
        (staged / "recipe.json").write_text(recipe.to_json())
        (staged / "README.md").write_text(_card(recipe, bank, scores or {}))
        if target.exists():
            target.rename(Path(temporary) / "replaced")
        staged.rename(target)
    return target


def _write_checkpoint(recipe: Recipe, bank: LayerBank, task: str, directory: Path) -> None:
    expert = bank.suite.experts[bank.suite.tasks[task].expert]
    model = assemble(recipe, bank, task).to(expert.parameters.flat.dtype)
    prefix = bank.suite.adapter.unsaved_prefix
    tensors = {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items()}
    with quiet():
        model.save_pretrained(directory, state_dict=tensors)
    if expert.processor is not None:
        copy_processor(Path(expert.processor), directory)


def _check_replaceable(target: Path) -> None:
    if target.is_dir() and ((target / "recipe.json").is_file() or not any(target.iterdir())):
        return
    if target.exists():
        raise FileExistsError(
            f"{target} is there and is no earlier export, which alone would be replaced: name "
            f"another directory"
        )


def _card(recipe: Recipe, bank: LayerBank, scores: Scores) -> str:
    suite = bank.suite
    layers = "\n".join(
        f"| {segment} | {position} | {layer.index} | {layer.source} |"
        for segment, entries in recipe.segments
        for position, layer in enumerate(entries)
    )
    sizes = {split: _examples(suite, split) for split in ("search", "test")}
    table = "\n".join(
        f"| {task} | {split} | {sizes[split][task]} | {metric:.4f} |"
        for split, values in scores.items()
        for task, metric in values.items()
    )
    first = next(iter(suite.tasks))
    return f"""---
library_name: transformers
tags: [merge, merge_gym]
license: {suite.licence.lower() or "other"}
---

# A merge of {" and ".join(suite.experts)}

{suite.description.strip()}

Found by merge_gym in the suite `{suite.name}` (digest `{recipe.suite}`). One checkpoint per task;
they differ in their heads only. `recipe.json` says exactly what each layer is made of.

```python
from transformers import AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("{first}")
```

## Layers

| segment | position | layer of the experts | source |
|---|---|---|---|
{layers}

Parameters outside the layers: {recipe.shared}.

## Scores

| task | split | examples | metric |
|---|---|---|---|
{table or "| – | – | – | not scored |"}

Rewards were computed on the search split; only the test split is a fair report.
"""


def _examples(suite: Suite, split: str) -> dict[str, int]:
    return {name: len(task.splits[split]) for name, task in suite.tasks.items()}
