"""What is written beside an exported model: what it is made of, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from transformers.models.auto import modeling_auto

from merge_gym.merging.bank import LayerBank
from merge_gym.recipe import Layer, Recipe, parts_text

Scores = Mapping[str, Mapping[str, float]]
"""{split: {task: metric in [0, 1]}}"""

AUTO_CLASSES = {
    "AutoModelForImageClassification": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "AutoModelForSequenceClassification": (
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    ),
    "AutoModelForCausalLM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "AutoModelForSeq2SeqLM": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}

PIPELINES = {
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSeq2SeqLM": "text2text-generation",
    "CLIPZeroShotClassifier": "zero-shot-image-classification",
}
"""The hub's name of what a model is for."""


def model_card(
    recipe: Recipe,
    bank: LayerBank,
    scores: Scores,
    mergekit_obstacle: str | None,
    bare: Sequence[str] = (),
) -> str:
    """The text of `README.md`, Markdown with YAML front matter.

    Args:
        recipe: what the model is made of.
        bank: of the recipe's suite.
        scores: as far as they are known.
        mergekit_obstacle: why there is no mergekit.yaml; None where there is one.
        bare: the checkpoints that hold the trunk alone.
    """
    suite = bank.suite
    shown = next((name for name in suite.heads if name not in bare), bare[0] if bare else "")
    each = "task" if suite.tasks else "expert"
    one = f"One checkpoint per {each}; they differ in their heads only"
    if bare:
        one += f" ({', '.join(bare)}: no head, the trunk alone, for `AutoModel`)"
    if not suite.adapter.head:
        one, shown = "One checkpoint, in this folder, for all tasks", "."
    return f"""---
{_front_matter(bank, bool(bare))}---

# A merge of {" and ".join(suite.experts)}

{suite.description.strip()}

Found by merge_gym in the suite `{suite.name}` (digest `{recipe.suite}`). {one}.
`recipe.json` says exactly what each layer is made of.
{_precision(bank)}

```python
{_opened_by(bank, shown in bare).format(task=shown)}
```

## Experts

| name | checkpoint |
|---|---|
{_experts(bank)}

All were fine-tuned from {_shown(suite.pretrained.location)}. Their own licences hold beside the one
above.

## Layers

| segment | position | layer of the experts | source |
|---|---|---|---|
{_layers(recipe)}

Parameters outside the layers: {parts_text(recipe.shared)}.

{_mergekit(mergekit_obstacle)}

## Scores

| task | split | examples | metric |
|---|---|---|---|
{_scores(scores, bank) or "| – | – | – | not scored |"}

Rewards were computed on the search split; only the test split is a fair report.
"""


def _front_matter(bank: LayerBank, bare: bool) -> str:
    """What the hub reads; `base_model` are those of the experts that have a name there."""
    suite = bank.suite
    named = [
        expert.location
        for expert in suite.experts.values()
        if not Path(expert.location).is_absolute() and not Path(expert.location).is_dir()
    ]
    front = {
        "library_name": "transformers",
        "tags": ["merge", "merge_gym"],
        "license": suite.licence.lower() or "other",
        **({"base_model": named, "base_model_relation": "merge"} if named else {}),
        "pipeline_tag": "feature-extraction" if bare else PIPELINES.get(_auto_class(bank)),
    }
    return yaml.safe_dump({k: v for k, v in front.items() if v}, sort_keys=False)


def _precision(bank: LayerBank) -> str:
    dtype = str(bank.suite.pretrained.parameters.flat.dtype).removeprefix("torch.")
    return (
        f"Weights are {dtype}, as the experts' are; transformers loads them as float32, in which "
        f"scores were computed."
    )


def _opened_by(bank: LayerBank, bare: bool) -> str:
    adapter = bank.suite.adapter
    if adapter.opened_by is not None:
        return adapter.opened_by
    opened_by = 'from transformers import {name}\n\nmodel = {name}.from_pretrained("{{task}}")'
    if bare:
        return opened_by.format(name="AutoModel")
    return opened_by.format(name=_auto_class(bank))


def _auto_class(bank: LayerBank) -> str:
    """The Auto class that loads an export, or the class itself."""
    adapter, model_type = bank.suite.adapter, bank.suite.pretrained.config.model_type
    model_class = adapter.model_class().__name__
    return next(
        (auto for auto, names in AUTO_CLASSES.items() if names.get(model_type) == model_class),
        model_class,
    )


def _experts(bank: LayerBank) -> str:
    return "\n".join(
        f"| {name} | {_shown(expert.location)} |" for name, expert in bank.suite.experts.items()
    )


def _shown(location: str) -> str:
    """A hub name as it is; of a local path, which means nothing elsewhere, the directory."""
    return f"`{Path(location).name if Path(location).is_absolute() else location}`"


def _layers(recipe: Recipe) -> str:
    return "\n".join(
        f"| {segment} | {position} | {layer.index} | {_taken(layer)} |"
        for segment, entries in recipe.segments
        for position, layer in enumerate(entries)
    )


def _taken(layer: Layer) -> str:
    factors = {"branches": layer.scale, "output": layer.stream}
    scaled = [f"{what} × {factor:.4g}" for what, factor in factors.items() if factor != 1]
    return ", ".join([parts_text(layer.parts), *scaled])


def _mergekit(obstacle: str | None) -> str:
    if obstacle is not None:
        return f"There is no mergekit configuration: {obstacle}."
    return (
        "`mergekit.yaml` gives the same tensors with mergekit 0.1.5: "
        "`mergekit-multi mergekit.yaml --intermediate-dir steps --out-path merged`."
    )


def _scores(scores: Scores, bank: LayerBank) -> str:
    tasks = bank.suite.tasks
    return "\n".join(
        f"| {task} | {split} | {len(tasks[task].splits[split])} | {metric:.4f} |"
        for split, values in scores.items()
        for task, metric in values.items()
    )
