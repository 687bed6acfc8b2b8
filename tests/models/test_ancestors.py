"""Pretrained models, opened as the class of the experts that began as them."""

from __future__ import annotations

import pytest
import torch
import transformers

from merge_gym.models import common_dtype, load_checkpoint

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
    "num_labels": 4,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
HALVES = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32} | {
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
IMAGES = {"image_size": 8, "patch_size": 4}
TEXTS = "ForSequenceClassification"
FAMILIES = {  # class of the ancestor, of the experts, settings
    "XLMRoberta": ("Model", TEXTS, {}),
    "Camembert": ("ForMaskedLM", TEXTS, {}),
    "MPNet": ("ForMaskedLM", TEXTS, {}),
    "Electra": ("ForPreTraining", TEXTS, {"embedding_size": 16}),
    "OPT": ("ForCausalLM", TEXTS, {"ffn_dim": 32, "word_embed_proj_dim": 16}),
    "Bart": ("Model", TEXTS, HALVES),
    "ViT": ("Model", "ForImageClassification", IMAGES),
    "Dinov2": ("Model", "ForImageClassification", IMAGES),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_an_ancestor_of_another_class_opens_as_the_experts_class(name, tmp_path):
    ancestor, expert, settings = FAMILIES[name]
    config = getattr(transformers, f"{name}Config")(**SIZES | settings)
    model = getattr(transformers, f"{name}{expert}")(config)
    model.save_pretrained(tmp_path / "expert")
    base = getattr(transformers, f"{name}{ancestor}")(config)
    base.base_model.load_state_dict(model.base_model.state_dict(), strict=False)
    base.save_pretrained(tmp_path / "base")

    theirs = load_checkpoint(str(tmp_path / "expert"))
    ours = load_checkpoint(str(tmp_path / "base"), need_head=False, like=theirs.config)
    assert ours.config.architectures == theirs.config.architectures
    assert ours.head == {}
    assert ours.parameters.layout == theirs.parameters.layout
    assert torch.equal(ours.parameters.flat, theirs.parameters.flat)


def test_weights_of_several_precisions_are_cast_up_and_none_where_they_agree(tmp_path):
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))
    places = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        places[dtype] = str(tmp_path / str(dtype))
        model.to(dtype).save_pretrained(places[dtype])
    full, half, other = places.values()
    assert common_dtype([half, half]) == "BF16"
    assert common_dtype([half, full]) == common_dtype([half, other]) == "F32"
    kept = load_checkpoint(half)
    cast = load_checkpoint(half, dtype=common_dtype([half, full]))
    assert (kept.dtype, cast.dtype, load_checkpoint(full).dtype) == ("BF16", "F32", "F32")
    assert cast.parameters.flat.dtype == torch.float32
    assert torch.equal(cast.parameters.flat, kept.parameters.flat.float())
