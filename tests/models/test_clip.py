"""CLIP vision towers with zero-shot heads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from merge_gym.models import load_checkpoint
from merge_gym.models.clip import write_zero_shot
from tests.models.family import (
    TOLERANCE,
    FamilyCase,
    changed_by_final,
    components,
    deviation_from_expert,
    deviation_layer_by_layer,
    deviation_of_scaled_branches,
    deviation_when_reloaded,
    write_case,
)

WORDS = ["<pad>", "<end>", "a", "photo", "drawing", "of", "cat", "dog", "bird"]
PROMPTS = {
    name: [f"a photo of a {name}", f"drawing of a {name}"] for name in ("cat", "dog", "bird")
}
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "projection_dim": 8,
}
PLAIN = """
from transformers import CLIPVisionModelWithProjection as load_class
from safetensors.torch import load_file
from torch.nn.functional import normalize
def load(directory):
    model = load_class.from_pretrained(directory)
    model.text = load_file(directory + "/model.safetensors")["zero_shot.weight"]
    return model
logits = lambda model, inputs: normalize(model(**inputs).image_embeds) @ model.text.T
"""


def save_clip(directory: Path) -> None:
    """A whole random CLIP model with tokenizer."""
    config = CLIPConfig(
        text_config=SIZES | {"vocab_size": 9, "max_position_embeddings": 12, "eos_token_id": 1},
        vision_config=SIZES | {"image_size": 8, "patch_size": 4},
        projection_dim=8,
        initializer_factor=10.0,
        logit_scale_init_value=1.0,
    )
    CLIPModel(config).save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, "<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>"
    ).save_pretrained(directory)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The CLIP checkpoint that gives every expert its text features."""
    directory = tmp_path_factory.mktemp("whole")
    torch.manual_seed(9)
    save_clip(directory)
    return directory


@pytest.fixture(scope="module")
def case(whole, tmp_path_factory) -> FamilyCase:
    def save(directory: Path) -> None:
        tower = directory.with_name(f"{directory.name}-clip")
        save_clip(tower)
        write_zero_shot(str(tower), str(whole), PROMPTS, directory)

    return write_case(
        tmp_path_factory.mktemp("clip"), save, {"pixel_values": torch.randn(4, 3, 8, 8)}
    )


class TwoTowers(torch.nn.Module):
    """A vision tower's expert as CLIP's own zero-shot classification gives it."""

    def __init__(self, tower: Path, whole: Path) -> None:
        super().__init__()
        self.model = CLIPModel.from_pretrained(tower)
        text = CLIPModel.from_pretrained(whole)
        self.model.text_model, self.model.text_projection = text.text_model, text.text_projection
        self.model.logit_scale = text.logit_scale
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(whole)

    def forward(self, pixel_values: torch.Tensor) -> transformers.utils.ModelOutput:
        """Cosines to the mean of each class's text features, scaled."""
        means = []
        for sentences in PROMPTS.values():
            tokens = self.tokenizer(sentences, padding=True, return_tensors="pt")
            out = self.model(pixel_values=pixel_values, **tokens)
            means.append(out.text_embeds.mean(0) / out.text_embeds.mean(0).norm())
        logits = self.model.logit_scale.exp() * out.image_embeds @ torch.stack(means).T
        return transformers.modeling_outputs.ImageClassifierOutput(logits=logits)


def test_clip_assembled_from_one_expert_equals_clips_own_zero_shot_logits(case, whole):
    tower = Path(case.suite.experts["one"].location)
    expert = TwoTowers(tower.with_name(f"{tower.name}-clip"), whole)
    assert deviation_from_expert(case, expert) <= TOLERANCE


def test_clip_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


def test_clip_exports_reload_with_equal_logits(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, PLAIN)
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_clip_without_a_zero_shot_head_is_a_pretrained_model_but_no_expert(whole):
    assert load_checkpoint(str(whole), need_head=False).head == {}
    with pytest.raises(ValueError, match=r"no complete task head \(zero_shot\.\)"):
        load_checkpoint(str(whole))


def test_clip_layers_are_attention_mlp_and_rest(case):
    assert components(case) == {
        "attention": {f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")},
        "mlp": {"mlp.fc1", "mlp.fc2"},
        "rest": {"layer_norm1", "layer_norm2"},
    }


def test_clip_writes_scale_both_branches(case):
    assert deviation_of_scaled_branches(case, "self_attn", "mlp") <= TOLERANCE


def test_clip_final_tensors_are_read_after_the_last_layer_only(case):
    assert changed_by_final(case) == {"logits"}
