"""Building a suite of small T5 models, the pretrained one trained here on the tasks' own texts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.progress import Progress

from experiments.builders import expert_sets, language_suite
from experiments.builders.expert_sets import deal_task
from experiments.builders.files import Result, plain, save_weights
from experiments.builders.question_sources import read_questions
from experiments.builders.t5_pretraining import new_model, new_tokenizer, pretrain, windows
from experiments.builders.training import Optimiser


def build(config: DictConfig, directory: Path, bars: Progress) -> list[Result]:
    """As `language_suite.build`, but the pretrained model is trained here if none is named."""
    if config.pretrained.directory is not None:
        return language_suite.build(config, directory, bars)
    kind = replace(language_suite.KIND, save_pretrained=partial(_save_pretrained, config, bars))
    return expert_sets.build(kind, config, directory, bars)


def _save_pretrained(
    config: DictConfig, bars: Progress, settings: DictConfig, target: Path
) -> None:
    """Train tokenizer and model on the prompts outside the search and test splits, and on the
    answers of those of the pretraining, and write them."""
    tasks = [deal_task(read_questions, name, config.data) for name in config.data.tasks]
    asked = [task.split("pretraining") for task in tasks]
    texts = [
        text for part in (*asked, *(task.split("train") for task in tasks)) for text in part.prompts
    ]
    questions = [pair for part in asked for pair in zip(part.prompts, part.targets, strict=True)]
    tokenizer = new_tokenizer(texts, settings.vocabulary, settings.window)
    model = new_model(tokenizer, plain(settings.model), settings.seed)
    rows = windows(texts, tokenizer, settings.window)
    rows = np.random.default_rng(settings.seed).permutation(rows)[: settings.windows]
    optimiser = Optimiser(**settings.optimiser)
    bar = bars.add_task("pretraining", total=optimiser.steps(len(rows), settings.epochs))
    pretrain(
        model,
        tokenizer,
        rows,
        questions,
        settings.learning_rate,
        settings.epochs,
        optimiser,
        settings.seed,
        partial(bars.advance, bar),
    )
    save_weights(model, target)
    tokenizer.save_pretrained(target)
