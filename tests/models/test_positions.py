"""How many tokens a model can read."""

from __future__ import annotations

import pytest
import torch
import transformers

from merge_gym.models import adapter_for

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
BERTLIKE = ("Bert", "DistilBert", "Roberta", "XLMRoberta", "Camembert")
SETTINGS = {
    "DistilBert": {"dim": 16, "n_heads": 2, "hidden_dim": 32},
    "OPT": {"ffn_dim": 32, "word_embed_proj_dim": 16},
}
POSITIONS = dict.fromkeys(BERTLIKE[:2], 12) | dict.fromkeys(BERTLIKE[2:], 10)
POSITIONS |= {"MPNet": 10, "Data2VecText": 10, "Electra": 12, "OPT": 12, "GPT2": 12}


@torch.inference_mode()
@pytest.mark.parametrize("name", POSITIONS)
def test_a_model_reads_as_many_tokens_as_its_adapter_says_and_no_more(name):
    kind = "LMHeadModel" if name == "GPT2" else "ForSequenceClassification"
    model_class = getattr(transformers, f"{name}{kind}")
    config = getattr(transformers, f"{name}Config")(
        **SIZES | SETTINGS.get(name, {}), architectures=[model_class.__name__]
    )
    limit = adapter_for(config).positions
    assert limit == POSITIONS[name]
    model = model_class(config).eval()
    model(input_ids=torch.full((1, limit), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, limit + 1), 5))


def test_rotary_models_read_what_they_were_trained_on_and_others_without_limit():
    assert adapter_for(transformers.LlamaConfig(max_position_embeddings=77)).positions == 77
    assert adapter_for(transformers.T5Config()).positions is None
    assert adapter_for(transformers.ViTConfig()).positions is None
