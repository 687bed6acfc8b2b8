"""Models that do not run as stem, layers, tail are found out before anything depends on it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers

from merge_gym.models import ADAPTERS, check_forward, load_checkpoint
from tests.models.family import NARROW, padded_tokens

REFUSED = {
    "DiffLlama": ("DiffLlamaForCausalLM", "logits of up to .* are off by"),
    "SqueezeBert": ("SqueezeBertForSequenceClassification", "IndexError: too many indices"),
    "XLNet": ("XLNetForSequenceClassification", ".*hidden states of 3 examples have 7 rows"),
}
SETTINGS = {"SqueezeBert": {"embedding_size": 16}, "XLNet": {"d_inner": 32, "d_head": 8}}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_does_not_run_by_layers_is_refused_with_its_type(name, tmp_path):
    model_class, message = REFUSED[name]
    config = getattr(transformers, f"{name}Config")(**NARROW | SETTINGS.get(name, {}))
    getattr(transformers, model_class)(config).save_pretrained(tmp_path)
    expected = rf"type '{config.model_type}' do not run as stem, layers, tail: {message}.* of their"
    with pytest.raises(ValueError, match=expected):
        check_forward(load_checkpoint(str(tmp_path)), padded_tokens())


@pytest.fixture
def expert(tmp_path):
    config = transformers.BertConfig(**NARROW | {"num_hidden_layers": 9})
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    return load_checkpoint(str(tmp_path))


def test_the_check_changes_nothing_and_may_be_made_again(expert):
    before = expert.parameters.flat.clone()
    state = torch.get_rng_state()
    for _ in range(2):
        check_forward(expert, padded_tokens())
    assert torch.equal(expert.parameters.flat, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("field", "function"),
    [
        ("layer", lambda module, hidden, mask: module(hidden, None)),
        ("tail", lambda model, hidden, inputs: model.classifier(hidden[:, 0])),
        ("tail", lambda model, hidden, inputs: model.classifier(hidden[:, 0]) * torch.nan),
    ],
)
def test_an_adapter_that_forgets_something_is_refused(expert, monkeypatch, field, function):
    family = ADAPTERS["bert"]
    monkeypatch.setitem(
        ADAPTERS, "bert", lambda config: dataclasses.replace(family(config), **{field: function})
    )
    with pytest.raises(ValueError, match="'bert' do not run as stem, layers, tail"):
        check_forward(expert, padded_tokens())
