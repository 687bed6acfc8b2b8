"""Texts as a model's own tokenizer makes them, and what language models are scored by."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from merge_gym import Evaluator, LayerBank, Recipe, ReferenceEvaluator, load_suite
from merge_gym.merging.assembly import assemble
from merge_gym.suites import loading
from merge_gym.suites.metrics import METRICS, UNSCORED
from tests import tiny_text
from tests.tiny_text import WORDS, write_suite

SENTENCES = [
    ("the film is good", "yes", 1),
    ("the film was bad", "no", 0),
    ("a mail is never good", "no", 0),
    ("a very very good mail", "always", 1),
    ("the mail was one", "no no", 0),
    ("a film is two", "yes", 1),
    ("three", "yes very", 1),
    ("the the bad bad", "never", 0),
]
TEXTS = [{"text": a, "other": b, "label": label} for a, b, label in SENTENCES]
CHOICES = [
    {"question": a, "options": ["very", b + " good"], "answer": label} for a, b, label in SENTENCES
]
PAIR = {"columns": {"input": ["text", "other"], "label": "label"}}
CHOOSE = {"columns": {"input": "question", "choices": "options", "label": "answer"}}
ANSWER = {"columns": {"input": "text", "target": "other"}}
LANGUAGE = {
    "multiple_choice": (CHOOSE, CHOICES),
    "multiple_choice_normalised": (CHOOSE, CHOICES),
    "exact_match": (ANSWER, TEXTS),
    "inverse_perplexity": (ANSWER, TEXTS),
}


def ids(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


def split(file: Path, which: str = "search"):
    return load_suite(file).tasks["task"].splits[which]


def test_a_text_becomes_the_tokenizers_tokens_padded_to_the_longest_of_the_split(tmp_path):
    found = split(
        write_suite(tmp_path, "bert", {"columns": {"input": "text", "label": "label"}}, TEXTS)
    )
    assert found.inputs["input_ids"].shape == (4, 7)
    assert found.inputs["input_ids"][0].tolist() == ids(
        "[CLS]", "the", "film", "is", "good", "[SEP]", "<pad>"
    )
    assert found.inputs["attention_mask"][0].tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert found.labels.tolist() == [1, 0, 0, 1]


def test_a_pair_of_columns_is_read_as_a_pair(tmp_path):
    found = split(write_suite(tmp_path, "bert", PAIR, TEXTS))
    assert found.inputs["input_ids"][0, :8].tolist() == ids(
        "[CLS]", "the", "film", "is", "good", "[SEP]", "yes", "[SEP]"
    )
    assert found.inputs["token_type_ids"][0, :8].tolist() == [0] * 6 + [1] * 2


def test_max_length_cuts_texts(tmp_path):
    file = write_suite(tmp_path, "bert", PAIR | {"max_length": 5}, TEXTS)
    assert split(file).inputs["input_ids"].shape == (4, 5)


def test_a_batch_of_padded_texts_gives_the_logits_of_each_alone(tmp_path):
    suite = load_suite(write_suite(tmp_path, "bert", PAIR, TEXTS))
    bank = LayerBank(suite)
    recipe = Recipe.uniform("one", bank)
    logits = ReferenceEvaluator(bank, subsets=2).logits(recipe, "task")
    model = assemble(recipe, bank, "task")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    for number, row in enumerate(TEXTS[0::2]):
        alone = model(**tokenizer(row["text"], row["other"], return_tensors="pt")).logits[0]
        torch.testing.assert_close(logits[number], alone, atol=1e-6, rtol=0)


@pytest.fixture(scope="module", params=[(f, m) for f in ("gpt2", "t5") for m in LANGUAGE])
def scored(request, tmp_path_factory):
    """A language model's family, its metric, and the file of a suite that is scored by it."""
    family, metric = request.param
    task, rows = LANGUAGE[metric]
    directory = tmp_path_factory.mktemp(family)
    return family, metric, write_suite(directory, family, task | {"metric": metric}, rows)


def test_language_metrics_are_what_the_plain_model_gives_one_sequence_at_a_time(scored):
    family, metric, file = scored
    bank = LayerBank(load_suite(file), shared="one")
    values = ReferenceEvaluator(bank, subsets=2).values(Recipe.uniform("one", bank))["task"]
    model = tiny_text.MODELS[family]().from_pretrained(file.parent / "one").eval()
    score = by_hand(model, family, metric)
    expected = [score(row) for row in LANGUAGE[metric][1][0::2]]
    assert values.tolist() == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) > 1 or metric == "exact_match"


def by_hand(model, family: str, metric: str):
    """Scores one row of the data without this library."""

    def log_likelihoods(prompt: str, target: str) -> list[float]:
        end = metric == "exact_match" or family == "t5"
        wanted = ids(*target.split(), *["</s>"] * end)
        if family == "t5":
            context = {
                "input_ids": torch.tensor([ids(*prompt.split(), "</s>")]),
                "decoder_input_ids": torch.tensor([[0, *wanted[:-1]]]),
            }
            start = 0
        else:
            context = {"input_ids": torch.tensor([ids(*prompt.split()) + wanted])}
            start = len(prompt.split()) - 1
        logits = model(**context).logits[0, start : start + len(wanted)]
        best = logits.argmax(-1).tolist() == wanted
        found = logits.log_softmax(-1)[range(len(wanted)), wanted].tolist()
        return [float(best)] if metric == "exact_match" else found

    def score(row) -> float:
        if "options" in row:
            lists = [log_likelihoods(row["question"], option) for option in row["options"]]
            each = [sum(x) / (len(x) if "normalised" in metric else 1) for x in lists]
            return float(each.index(max(each)) == row["answer"])
        values = log_likelihoods(row["text"], row["other"])
        return values[0] if metric == "exact_match" else math.exp(sum(values) / len(values))

    return score


def test_the_engine_gives_the_references_values(scored):
    bank = LayerBank(load_suite(scored[-1]))
    evaluators = [kind(bank, subsets=2) for kind in (ReferenceEvaluator, Evaluator)]
    for source in bank.candidates.names:
        recipe = Recipe.uniform(source, bank)
        for at in ({}, {"subset": 1}, {"split": "test"}):
            reference, engine = (e.values(recipe, **at)["task"].tolist() for e in evaluators)
            assert engine == pytest.approx(reference, abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_exact_match_is_one_for_what_greedy_decoding_gives_and_zero_for_all_else(family):
    torch.manual_seed(0)
    model = tiny_text.MODELS[family]().eval()
    prompt = torch.tensor([ids("the", "film", "is")])
    decoded = model.generate(prompt, max_new_tokens=4, do_sample=False, pad_token_id=0)
    if family == "t5":
        targets = decoded[:, 1:]
        logits = model(input_ids=prompt, decoder_input_ids=decoded[:, :-1]).logits
    else:
        targets = torch.cat([torch.full((1, 2), UNSCORED), decoded[:, 3:]], 1)
        logits = model(input_ids=decoded[:, :-1]).logits
    exact_match, labels = METRICS["exact_match"].score, torch.zeros(1)
    assert exact_match(logits, labels, targets).tolist() == [1]
    for place in range(1, 5):
        other = targets.clone()
        other[0, -place] = (other[0, -place] + 1) % len(WORDS)
        assert exact_match(logits, labels, other).tolist() == [0]


def test_a_decoder_reads_the_end_of_a_prompt_that_is_too_long(tmp_path):
    task = ANSWER | {"metric": "inverse_perplexity", "max_length": 4}
    found = split(write_suite(tmp_path, "gpt2", task, TEXTS))
    assert found.inputs["input_ids"][0, :3].tolist() == ids("is", "good", "yes")
    assert found.targets[0, :3].tolist() == [UNSCORED, *ids("yes"), UNSCORED]


def test_without_a_prompt_all_tokens_but_the_first_are_scored(tmp_path):
    task = {"columns": {"target": "text"}, "metric": "inverse_perplexity"}
    found = split(write_suite(tmp_path, "gpt2", task, TEXTS[:6]))
    assert found.targets[0, :4].tolist() == [*ids("film", "is", "good"), UNSCORED]


def test_choices_may_stand_in_a_column_each(tmp_path):
    task = {"columns": {"input": "question", "choices": ["first", "second"], "label": "answer"}}
    rows = [dict(row, first=row["options"][0], second=row["options"][1]) for row in CHOICES]
    for row in rows:
        del row["options"]
    apart = write_suite(tmp_path / "apart", "t5", task | {"metric": "multiple_choice"}, rows)
    lists = write_suite(tmp_path / "lists", "t5", CHOOSE | {"metric": "multiple_choice"}, CHOICES)
    assert torch.equal(split(apart).targets, split(lists).targets)
    assert split(apart).inputs["input_ids"].shape[:2] == (4, 2)


@pytest.mark.parametrize(
    ("family", "task", "rows", "message"),
    [
        ("bert", ANSWER | {"metric": "exact_match"}, TEXTS, "a head for classes: choose accuracy"),
        ("t5", PAIR, TEXTS, "has no head.*: choose exact_match or"),
        (
            "t5",
            PAIR | {"metric": "multiple_choice"},
            TEXTS,
            r"task\.columns in .* lacks choices; it needs",
        ),
        ("bert", {"columns": {"input": "label", "label": "label"}}, TEXTS, "'label'.*int64.*text"),
        ("bert", PAIR | {"max_lenght": 5}, TEXTS, "unknown setting 'max_lenght'.*'max_length'"),
        (
            "bert",
            PAIR | {"max_length": 0},
            TEXTS,
            r"task\.max_length in .*from 1 to 1000000, got 0",
        ),
        ("t5", ANSWER | {"metric": "exact_match", "max_length": 2}, TEXTS, "'no no' has 3 tokens"),
        (
            "t5",
            CHOOSE | {"metric": "multiple_choice"},
            [*CHOICES[:-1], dict(CHOICES[-1], options=["one"])],
            "the same number of texts in each row",
        ),
        (
            "t5",
            CHOOSE | {"metric": "multiple_choice"},
            [*CHOICES[:-1], dict(CHOICES[-1], answer=2)],
            r"labels \[2\], but only 2 choices",
        ),
        (
            "bert",
            PAIR | {"columns": PAIR["columns"] | {"choices": "text"}},
            TEXTS,
            r"unknown column for the metric 'accuracy' 'choices'\. Known: input, label",
        ),
        (
            "bert",
            {"columns": {"input": "text", "label": ["label"]}},
            TEXTS,
            r"'label' is one column for the metric 'accuracy', got \['label'\]",
        ),
        ("bert", {"columns": {"input": ["text"] * 3, "label": "label"}}, TEXTS, "'input' is one"),
        (
            "t5",
            {"columns": {"input": ["text", "other"], "target": "other"}, "metric": "exact_match"},
            TEXTS,
            "'input' is one column for the metric 'exact_match'",
        ),
        (
            "gpt2",
            {"columns": {"target": "text"}, "metric": "inverse_perplexity"},
            TEXTS,
            "one token after no prompt",
        ),
    ],
)
def test_what_a_task_cannot_be_made_of_is_refused(tmp_path, family, task, rows, message):
    with pytest.raises(ValueError, match=message):
        load_suite(write_suite(tmp_path, family, task, rows))


def test_texts_longer_than_the_models_positions_are_refused_with_the_limit(tmp_path):
    rows = [*TEXTS, {"text": "very " * 15, "other": "no", "label": 0}]
    with pytest.raises(ValueError, match=r"19 tokens, .*positions for 12 only: set .*max_length"):
        load_suite(write_suite(tmp_path, "bert", PAIR, rows))


def test_a_checkpoint_without_its_tokenizer_is_refused_before_weights_are_read(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(loading, "load_checkpoint", pytest.fail)
    file = write_suite(tmp_path, "bert", PAIR, TEXTS)
    (tmp_path / "one" / "tokenizer.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^expert 'one': .*one holds no tokenizer \(tokenizer\.json"
    ):
        load_suite(file)


def test_a_damaged_tokenizer_is_refused(tmp_path):
    file = write_suite(tmp_path, "bert", PAIR, TEXTS)
    (tmp_path / "one" / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer in .*one cannot be read"):
        load_suite(file)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    file = write_suite(tmp_path, "bert", PAIR, TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    tokenizer.add_tokens(["four"])
    tokenizer.save_pretrained(tmp_path / "one")
    with pytest.raises(ValueError, match=f"{len(WORDS) + 1} tokens, its model only {len(WORDS)}"):
        load_suite(file)


TWO_TASKS = {
    name: {"expert": name, "data": {"search": "search.jsonl", "test": "test.jsonl"}, **PAIR}
    for name in ("one", "two")
}


def reword(directory: Path, change) -> None:
    file = directory / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"] = change(content["model"]["vocab"])
    file.write_text(json.dumps(content))


def use_both(file: Path) -> Path:
    description = yaml.safe_load(file.read_text())
    file.write_text(json.dumps(description | {"tasks": TWO_TASKS}))
    return file


def test_experts_that_read_other_words_are_refused_with_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_checkpoint", pytest.fail)
    file = use_both(write_suite(tmp_path, "bert", PAIR, TEXTS))
    swapped = {"film": WORDS.index("mail"), "mail": WORDS.index("film")}
    reword(tmp_path / "two", lambda words: words | swapped)
    number = WORDS.index("film")
    with pytest.raises(
        ValueError,
        match=rf"^expert 'two': token {number} is 'mail' in .*two, but 'film' in that of .*one",
    ):
        load_suite(file)


def test_one_vocabulary_may_be_written_in_two_ways(tmp_path):
    file = use_both(write_suite(tmp_path, "bert", PAIR, TEXTS))
    reword(tmp_path / "two", lambda words: dict(reversed(words.items())))
    assert list(load_suite(file).tasks) == ["one", "two"]


def test_the_words_of_an_expert_that_no_task_uses_are_not_compared(tmp_path):
    file = write_suite(tmp_path, "bert", PAIR, TEXTS)
    (tmp_path / "two" / "tokenizer.json").write_text("{}")
    assert list(load_suite(file).experts) == ["one", "two"]


def test_the_same_text_in_both_splits_is_refused_whatever_its_padding(tmp_path):
    rows = [*TEXTS, {"text": "very " * 8, "other": "no", "label": 0}, TEXTS[0]]
    with pytest.raises(ValueError, match="1 examples stand in both"):
        load_suite(write_suite(tmp_path, "bert", PAIR, rows))
