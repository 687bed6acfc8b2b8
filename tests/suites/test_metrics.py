"""Metrics: how one is added, what each says it needs, and what none of them scores."""

from __future__ import annotations

import pytest
import torch
import yaml
from transformers import ElectraConfig, ElectraForTokenClassification

from merge_gym import LayerBank, Recipe, ReferenceEvaluator, load_suite
from merge_gym.models import ADAPTERS
from merge_gym.suites import metric
from merge_gym.suites.metrics import METRICS
from tests import tiny_text


@pytest.fixture
def probability_of_this_test():
    @metric(columns=("input", "label"))
    def probability_of_this_test(logits, labels):
        """The probability of the label; float32, shape (n,)."""
        return logits.softmax(-1).gather(-1, labels[:, None]).squeeze(-1)

    yield probability_of_this_test
    del METRICS["probability_of_this_test"]


def test_a_metric_of_ones_own_scores_a_suite(suite_file, tmp_path, probability_of_this_test):
    description = yaml.safe_load(suite_file.read_text())
    for task in description["tasks"].values():
        task["metric"] = "probability_of_this_test"
    file = suite_file.with_name("probability.yaml")
    file.write_text(yaml.safe_dump(description))
    bank = LayerBank(load_suite(file))
    reference, recipe = ReferenceEvaluator(bank), Recipe.uniform("average", bank)
    values = reference.values(recipe)["low"]
    labels = bank.suite.tasks["low"].splits["search"].labels
    expected = reference.logits(recipe, "low").softmax(-1)[range(60), labels]
    assert values.tolist() == pytest.approx(expected.tolist())
    assert len(set(values.tolist())) > 2


def test_a_metric_says_what_it_needs(probability_of_this_test):
    assert [name for name, found in METRICS.items() if found.argmax_only] == ["accuracy"]
    found = METRICS["probability_of_this_test"]
    assert (found.argmax_only, found.language, found.ends) == (False, False, False)
    assert found.columns == METRICS["accuracy"].columns == ("input", "label")
    assert [name for name, found in METRICS.items() if found.ends] == ["exact_match"]


def test_columns_that_no_suite_has_are_refused():
    with pytest.raises(ValueError, match="among input, label, choices, target, got 'lable'"):
        metric(columns=("input", "lable"))


def test_values_that_are_not_one_for_each_example_are_refused():
    @metric(columns=("input", "label"))
    def everything(logits, labels):
        return logits

    found = METRICS.pop("everything")
    with pytest.raises(ValueError, match=r"'everything' gives values of shape \(4, 3\), expected"):
        found.score(torch.zeros(4, 3), torch.zeros(4))


@pytest.mark.parametrize(
    ("name", "shape", "targets", "message"),
    [
        ("accuracy", (4, 4, 3), None, r"got logits of shape \(4, 4, 3\) .* of shape \(4,\)"),
        ("accuracy", (1, 3), None, r"got logits of shape \(1, 3\) .* of shape \(4,\)"),
        ("exact_match", (4, 3), (4, 5), r"got logits of shape \(4, 3\) .* of shape \(4, 5\)"),
        ("inverse_perplexity", (4, 3), None, r"got logits of shape \(4, 3\) .* of shape none"),
        ("multiple_choice", (4, 5, 3), (4, 2, 5), r"\(4, 5, 3\) .* of shape \(4, 2, 5\)"),
    ],
)
def test_logits_of_another_kind_are_refused_and_not_broadcast(name, shape, targets, message):
    given = None if targets is None else torch.zeros(targets, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        METRICS[name].score(torch.zeros(shape), torch.zeros(4, dtype=torch.int64), given)


@pytest.mark.parametrize("name", ["accuracy", "exact_match"])
def test_a_head_for_each_token_is_refused_when_the_suite_is_opened(tmp_path, monkeypatch, name):
    def electra():
        sizes = {"hidden_size": 16, "embedding_size": 16, "intermediate_size": 16}
        shape = {"num_hidden_layers": 2, "num_attention_heads": 2}
        config = ElectraConfig(vocab_size=len(tiny_text.WORDS), **sizes, **shape)
        return ElectraForTokenClassification(config)

    monkeypatch.setitem(tiny_text.MODELS, "electra", electra)
    monkeypatch.delitem(ADAPTERS, "electra", raising=False)
    columns = {"input": "text", METRICS[name].columns[-1]: METRICS[name].columns[-1]}
    rows = [{"text": f"the film {w}", "label": 0, "target": "no"} for w in ("is", "was")]
    file = tiny_text.write_suite(tmp_path, "electra", {"metric": name, "columns": columns}, rows)
    with pytest.raises(ValueError, match=r"one for each token|does not fit .*head for classes"):
        load_suite(file)
