"""Building a suite of language models: one pretrained model, fine-tuned on each source.

The model is a decoder, or an encoder and a decoder; an expert learns to answer a prompt with the
right one of its choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from omegaconf import DictConfig
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.builders import expert_sets
from experiments.builders.expert_sets import Kind
from experiments.builders.files import Result, save_weights
from experiments.builders.question_sources import Questions, read_questions
from merge_gym.models import adapter_for, check_checkpoint, load_checkpoint, torchvision_shim
from merge_gym.models.files import copy_processor, local_directory
from merge_gym.models.weights import quiet
from merge_gym.suites import Split
from merge_gym.suites.data import make_split
from merge_gym.suites.metrics import METRICS, UNSCORED
from merge_gym.suites.sequences import by_example, end_to_end
from merge_gym.suites.text import language_inputs

torchvision_shim.install()

from transformers import AutoConfig, AutoTokenizer, GgufConfig, PreTrainedModel  # noqa: E402


class LanguageModel:
    """A pretrained language model and its tokenizer.

    Args:
        directory: of the pretrained checkpoint.
        metric: of its task, in `merge_gym.suites.metrics`.
        max_length: tokens of a prompt (with its target, where the model is a decoder).
        seed: of dropout.
        device: where the model runs.
    """

    def __init__(
        self, directory: Path, metric: str, max_length: int, seed: int, device: str = "cpu"
    ) -> None:
        torch.manual_seed(seed)
        self.checkpoint = load_checkpoint(str(directory))
        self.model: PreTrainedModel = _open(directory, dtype=torch.float32).to(device)
        self.metric, self.max_length = metric, max_length

    def loss_on(self, questions: Questions) -> Callable[[Tensor], Tensor]:
        """The mean cross entropy of the right choices' tokens, of the questions of these numbers,
        shape (batch,)."""
        inputs, targets = language_inputs(
            questions.prompts,
            questions.targets,
            self.max_length,
            self.checkpoint,
            ends=METRICS[self.metric].ends,
        )

        def loss(batch: Tensor) -> Tensor:
            wanted = targets[batch].to(self.model.device)
            scored = wanted != UNSCORED
            chosen = {name: value[batch].to(self.model.device) for name, value in inputs.items()}
            return cross_entropy(scored_logits(self.model, chosen, scored), wanted[scored])

        return loss

    @torch.inference_mode()
    def score(self, questions: Questions, batch_size: int = 16) -> float:
        """The metric, as the library computes it."""
        rows = datasets.Dataset.from_dict(_table(questions)[0])
        columns = _columns(self.metric)
        split = make_split(rows, columns, self.metric, self.max_length, self.checkpoint)
        batches = torch.arange(len(split)).split(batch_size)
        return float(torch.cat([self._values(split[batch]) for batch in batches]).mean())

    def _values(self, batch: Split) -> Tensor:
        inputs = {
            name: end_to_end(value).to(self.model.device) for name, value in batch.inputs.items()
        }
        logits = by_example(self.model(**inputs).logits.cpu(), len(batch))
        return METRICS[self.metric].score(logits, batch.labels, batch.targets)


def scored_logits(model: PreTrainedModel, inputs: dict[str, Tensor], scored: Tensor) -> Tensor:
    """A language model's logits where `scored` is true, shape (n, vocabulary).

    The others, which would take most of a training step's memory, are not computed.
    """

    def select(_: torch.nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0][scored],)

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        return model(**inputs, use_cache=False).logits
    finally:
        hook.remove()


def save_pretrained(settings: DictConfig, target: Path) -> None:
    """Write the pretrained model in float16, as the experts are, and its tokenizer.

    Args:
        settings: its `directory`, or the name of one on the hub, and in `get` how to come by it. Of
            a directory with a GGUF file, that one is read and its weights are dequantised.
        target: a new directory.
    """
    if settings.directory is None:
        raise FileNotFoundError(
            f"{settings.title}: expected the directory of a checkpoint, got None. {settings.get}"
        )
    source = local_directory(settings.directory)
    if files := sorted(source.glob("*.gguf")):
        file = {"gguf_file": files[0].name}
        dense = GgufConfig(dequantize=True)
        save_weights(_open(source, **file, quantization_config=dense), target)
        AutoTokenizer.from_pretrained(source, **file).save_pretrained(target)
    else:
        check_checkpoint(str(source))
        save_weights(_open(source), target)
        copy_processor(source, target)


def _open(directory: Path, **settings: Any) -> PreTrainedModel:
    """The model of a checkpoint; ValueError where it is no language model."""
    file = {name: value for name, value in settings.items() if name == "gguf_file"}
    with quiet():
        adapter = adapter_for(AutoConfig.from_pretrained(directory, **file))
        if adapter.head:
            raise ValueError(
                f"{directory} holds a {adapter.model_class().__name__}, expected a language model"
            )
        return adapter.model_class().from_pretrained(directory, **settings)


def _open_expert(
    device: str, directory: Path, source: DictConfig, questions: Questions, seed: int
) -> LanguageModel:
    return LanguageModel(directory, source.metric, source.max_length, seed, device)


def _table(questions: Questions) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    """Columns for every metric of language models."""
    text = datasets.Value("string")
    columns: dict[str, Sequence[Any]] = {
        "input": questions.prompts,
        "choices": questions.choices,
        "label": questions.labels.tolist(),
        "target": questions.targets,
    }
    features = {"choices": datasets.List(text), "label": datasets.Value("int64")}
    return columns, {"input": text, **features, "target": text}


def _columns(metric: str) -> dict[str, str]:
    return {role: role for role in ("input", *METRICS[metric].columns)}


def _entry(source: DictConfig) -> dict[str, Any]:
    return {
        "metric": source.metric,
        "columns": _columns(source.metric),
        "max_length": source.max_length,
    }


KIND = Kind(read_questions, save_pretrained, partial(_open_expert, "cpu"), _table, _entry)


def build(config: DictConfig, directory: Path, bars: Progress) -> list[Result]:
    """Write pretrained model, data, experts and suite files; see `expert_sets.build`."""
    device = config.get("device", "cpu")
    kind = replace(KIND, open_expert=partial(_open_expert, device))
    return expert_sets.build(kind, config, directory, bars)
