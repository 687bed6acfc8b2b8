"""The builders of T5 suites end to end: one trained here, and the paper's from local data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from experiments.builders import language_suite, t5_suite
from experiments.builders.benchmark_questions import BENCHMARKS
from merge_gym import LayerBank, Recipe, ReferenceEvaluator, load_suite
from merge_gym.models import load_checkpoint
from merge_gym.suites.text import open_tokenizer
from tests import tiny_text
from tests.experiments.builders.benchmarks import many, write_csv, write_dataset
from tests.experiments.builders.building import build, check_scores, compose_suite, files
from tests.experiments.builders.sources import DOMAINS, NEWS, write_bbc, write_vader

NAMES = {"paws": "labeled_final", "winogrande": "winogrande_xl", "wsc": "wsc.fixed"}
CSV = "cloze_test_{0}__spring2016 - cloze_test_ALL_{0}.csv"
SMALL = ("data.search=6", "data.test=6", "data.train=10", "seeds=[3]", "optimiser.batch_size=4")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sources")
    write_vader(directory / "vader")
    write_bbc(directory / "bbc")
    for kind in BENCHMARKS.keys() - {"story_cloze"}:
        rows = many(kind, 40)
        splits = {"train": rows[:24], "validation": rows[24:]}
        write_dataset(directory / kind, splits, NAMES.get(kind))
    (directory / "story_cloze").mkdir()
    for part, rows in (("val", many("story_cloze", 24)), ("test", many("story_cloze", 40)[24:])):
        write_csv(directory / "story_cloze" / CSV.format(part), rows)
    torch.manual_seed(0)
    tiny_text.t5().save_pretrained(directory / "t5")
    tiny_text.save_tokenizer(directory / "t5", "t5")
    return directory


def trained_here(sources: Path, *overrides: str) -> DictConfig:
    config = compose_suite(
        "suite=t5-domains",
        "~data.tasks.spam",
        "~experts.spam",
        f"data.tasks.source.directory={sources}/vader",
        f"data.tasks.news.directory={sources}/bbc",
        "data.tasks.source.train=10",
        "pretrained.model.d_model=8",
        "pretrained.model.num_layers=2",
        "pretrained.model.num_decoder_layers=1",
        "pretrained.vocabulary=60",
        "pretrained.window=20",
        "pretrained.windows=10",
        "data.pretraining=5",
        *SMALL,
        *overrides,
    )
    config.data.tasks.source.choices = {name: name for name in DOMAINS}
    config.data.tasks.news.choices = {name: name for name in NEWS}
    return config


def benchmarks(sources: Path, suite: str) -> DictConfig:
    config = compose_suite(f"suite={suite}", f"pretrained.directory={sources}/t5", *SMALL)
    for source in config.data.tasks.values():
        source.path = str(sources / source.kind)
        if "search" in source:
            source.search = config.data.search
    for expert in config.experts.values():
        expert.epochs = 1
    return config


@pytest.fixture(scope="module")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("suites") / "t5"
    build(t5_suite.build, trained_here(sources), output)
    return output


def test_the_library_opens_and_scores_a_suite_whose_t5_was_trained_here(built: Path) -> None:
    suite = load_suite(built / "t5-domains-3.yaml")
    bank = LayerBank(suite)
    assert bank.candidates.segments == {"encoder": 2, "decoder": 1}
    assert suite.tasks["news"].splits["test"].targets.shape[:2] == (6, 3)
    scores = ReferenceEvaluator(bank, subsets=2).score(Recipe.uniform("average", bank), "test")
    assert scores.keys() == {"source", "news"}


def test_the_tokenizer_that_was_trained_is_the_experts_too(built: Path) -> None:
    own, expert = (
        open_tokenizer(load_checkpoint(str(built / place)))
        for place in ("pretrained", "set-3/news")
    )
    text = "topic: the never film"
    assert own.decode(own(text)["input_ids"]) == f"{text}</s>"
    assert own(text)["input_ids"] == expert(text)["input_ids"]


def test_the_same_settings_train_the_same_suite(built: Path, sources: Path, tmp_path: Path) -> None:
    build(t5_suite.build, trained_here(sources), tmp_path / "again")
    assert files(tmp_path / "again") == files(built)


def test_no_text_of_a_split_is_pretrained_on(sources, tmp_path, monkeypatch) -> None:
    config, seen = trained_here(sources), []

    def spy(texts, *rest):
        seen.extend(texts)
        raise StopIteration

    monkeypatch.setattr(t5_suite, "new_tokenizer", spy)
    with pytest.raises(StopIteration):
        build(t5_suite.build, config, tmp_path / "out")
    for name in config.data.tasks:
        task = t5_suite.deal_task(t5_suite.read_questions, name, config.data)
        held_out = {*task.split("search").prompts, *task.split("test").prompts}
        assert len(held_out) == 12
        assert not held_out & set(seen)
        assert {*task.split("train").prompts, *task.split("pretraining").prompts} <= set(seen)


def test_the_answers_that_are_pretrained_on_are_learnt_by_no_expert(
    sources, tmp_path, monkeypatch
) -> None:
    config, asked = trained_here(sources), []

    def spy(model, tokenizer, rows, questions, *rest):
        assert len(rows) == 10
        asked.extend(questions)
        raise StopIteration

    monkeypatch.setattr(t5_suite, "pretrain", spy)
    with pytest.raises(StopIteration):
        build(t5_suite.build, config, tmp_path / "out")
    assert len(asked) == len(set(asked)) == 10
    for name in config.data.tasks:
        task = t5_suite.deal_task(t5_suite.read_questions, name, config.data)
        common = task.split("pretraining")
        assert {*zip(common.prompts, common.targets, strict=True)} <= {*asked}
        pool = set(task.examples["train"][task.training_rows(None, seed=3)].prompts)
        assert pool
        assert not pool & set(common.prompts)


def test_a_named_checkpoint_takes_the_place_of_the_trained_one(sources, tmp_path) -> None:
    config = trained_here(sources, f"pretrained.directory={sources}/t5")
    build(t5_suite.build, config, tmp_path / "given")
    suite = load_suite(tmp_path / "given" / "t5-domains-3.yaml")
    given = load_checkpoint(str(sources / "t5")).parameters.flat
    assert torch.equal(suite.pretrained.parameters.flat, given.half())


@pytest.mark.parametrize(
    ("suite", "tasks"),
    [
        ("t5-qa", ["qasc", "wiki-qa", "quartz"]),
        ("t5-mixed", ["paws", "story-cloze", "winogrande", "wsc"]),
    ],
)
def test_the_paper_s_suites_are_built_from_local_data(sources, tmp_path, suite, tasks) -> None:
    results = build(language_suite.build, benchmarks(sources, suite), tmp_path / suite)
    file = tmp_path / suite / f"{suite}-3.yaml"
    assert list(load_suite(file).tasks) == [result.expert for result in results] == tasks
    check_scores(results, file)


@pytest.mark.parametrize("suite", ["t5-qa", "t5-mixed"])
def test_the_paper_s_suites_are_complete_for_either_model(suite: str) -> None:
    for model, name in (("t5-small", "google-t5/t5-small"), ("t5-base", "google-t5/t5-base")):
        config = compose_suite(f"suite={suite}", f"pretrained={model}")
        assert config.pretrained.directory == name
        assert config.experts.keys() == config.data.tasks.keys()
        assert all(source.kind in BENCHMARKS for source in config.data.tasks.values())
