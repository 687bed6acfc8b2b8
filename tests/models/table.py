"""The table of docs/families.md: random models of each architecture, opened, scored and exported.

    python -m tests.models.table --write

Each row is measured on models of two or three narrow layers. A family that opens must give the
logits that transformers or timm give; the program ends with an error where one does not.
"""

from __future__ import annotations

import argparse
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merge_gym import Evaluator, LayerBank, Recipe
from merge_gym.models import ADAPTERS
from tests.models.family import (
    NARROW,
    TOLERANCE,
    FamilyCase,
    PlainProcess,
    deviation_layer_by_layer,
    deviation_when_reloaded,
    padded_tokens,
    write_case,
)
from tests.tiny_timm import save_timm

import transformers  # isort: skip  # after merge_gym.models, which mends torchvision

DOCUMENT = Path(__file__).parents[2] / "docs/families.md"
BEGIN, END = "<!-- make families writes from here -->", "<!-- to here -->"

SIZES = NARROW | {"num_labels": 4}
TEXT = {**SIZES, "max_position_embeddings": 16}
DECODER = {**TEXT, "num_key_value_heads": 1, "head_dim": 8}
BOTH = {
    **TEXT,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "init_std": 0.3,
    "decoder_start_token_id": 2,
}
T5 = {
    "vocab_size": 30,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 0,
    "num_labels": 4,
}
IMAGE = {**SIZES, "image_size": 32, "patch_size": 8, "num_channels": 3}
STAGES = {"image_size": 32, "num_channels": 3, "num_labels": 4, "depths": [2, 2]}
WINDOWS = STAGES | {"embed_dim": 8, "num_heads": [2, 2], "window_size": 2, "patch_size": 4}
SIZED = STAGES | {"hidden_sizes": [8, 16], "num_stages": 2}
SOUND = {
    **SIZES,
    "conv_dim": [8, 8],
    "conv_stride": [4, 4],
    "conv_kernel": [4, 4],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 8,
}
ENDS = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}


@dataclass(frozen=True)
class Family:
    """One row: a class, the settings that make it small, and what it is called with."""

    model_class: str
    settings: Mapping[str, Any]
    inputs: Callable[[], dict[str, Tensor]]
    of_timm: bool = field(default=False)

    def save(self, directory: Path) -> None:
        if self.of_timm:
            save_timm(directory, self.model_class)
            return
        model_class = getattr(transformers, self.model_class)
        model_class(model_class.config_class(**self.settings)).save_pretrained(directory)

    def load(self, directory: str) -> nn.Module:
        name = "AutoModelForImageClassification" if self.of_timm else self.model_class
        return getattr(transformers, name).from_pretrained(directory).eval()

    @property
    def loading(self) -> str:
        """The same as `load`, for a process without this library."""
        name = "AutoModelForImageClassification" if self.of_timm else self.model_class
        return (
            f"import transformers\nload = transformers.{name}.from_pretrained\n"
            f"logits = lambda model, inputs: model(**inputs).logits"
        )


@dataclass(frozen=True)
class Row:
    """What was found: how the family is opened with its greatest differences, or the refusal."""

    family: Family
    opened_by: str
    differences: Mapping[str, float]
    refusal: str = ""

    @property
    def wrong(self) -> bool:
        return not all(value <= TOLERANCE for value in self.differences.values())

    def __str__(self) -> str:
        name = (
            f"timm `{self.family.model_class}`"
            if self.family.of_timm
            else (f"`{self.family.model_class}`")
        )
        if self.refusal:
            return f"| {name} | – | refused: {self.refusal} |||"
        found = {what: f"{value:.1g}" for what, value in self.differences.items()}
        reloaded = " / ".join(found[name] for name in ("skipped", "stacked", "mixed"))
        return f"| {name} | {self.opened_by} | {found['expert']} | {found['layers']} | {reloaded} |"


def tokens() -> dict[str, Tensor]:
    """Padded tokens that end with the end token."""
    return padded_tokens()


def sequences() -> dict[str, Tensor]:
    inputs = padded_tokens()
    return inputs | {"decoder_input_ids": inputs["input_ids"].flip(0)[:, :5]}


def ended() -> dict[str, Tensor]:
    """Tokens without padding, each row with one end token, as BART's classifier reads it."""
    ids = padded_tokens()["input_ids"].clamp(min=5)
    ids[:, -1] = 3
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def images() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(4, 3, 32, 32)}


def waves() -> dict[str, Tensor]:
    return {"input_values": torch.randn(3, 400)}


def spectra() -> dict[str, Tensor]:
    return {"input_values": torch.randn(3, 32, 32)}


def heard() -> dict[str, Tensor]:
    return {"input_features": torch.randn(3, 16, 32)}


CLASSIFIERS: dict[str, dict[str, Any]] = {
    "Bert": {},
    "Roberta": {},
    "XLMRoberta": {},
    "Camembert": {},
    "DistilBert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
    "Electra": {"embedding_size": 8},
    "MPNet": {},
    "Deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "Albert": {"embedding_size": 8},
    "Longformer": {"attention_window": [4, 8, 4]},
    "BigBird": {"attention_type": "original_full"},
    "SqueezeBert": {"embedding_size": 16},
    "XLM": {"emb_dim": 16, "n_layers": 3, "n_heads": 2},
    "Flaubert": {"emb_dim": 16, "n_layers": 3, "n_heads": 2},
    "Esm": {"mask_token_id": 5},
    "ConvBert": {"embedding_size": 16},
    "RemBert": {"input_embedding_size": 8, "output_embedding_size": 8},
    "MobileBert": {"embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8},
    "Data2VecText": {},
    "Ernie": {},
    "FNet": {},
    "LayoutLM": {},
    "MegatronBert": {},
    "Nystromformer": {"num_landmarks": 7, "segment_means_seq_len": 7},
    "RoFormer": {"embedding_size": 16},
    "IBert": {},
    "XLMRobertaXL": {},
    "RobertaPreLayerNorm": {},
    "Xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "ModernBert": {"global_attn_every_n_layers": 2, "local_attention": 4},
    "Canine": {"num_hash_functions": 2, "num_hash_buckets": 8, "type_vocab_size": 2},
}
"""Encoders of text with a classifier."""

LANGUAGE: dict[str, dict[str, Any]] = {
    "OpenAIGPTLMHeadModel": {},
    "GPT2LMHeadModel": {},
    "GPTNeoForCausalLM": {
        "attention_types": [[["global", "local"], 1], [["local"], 1]],
        "num_layers": 3,
        "window_size": 3,
    },
    "GPTNeoXForCausalLM": {},
    "GPTJForCausalLM": {"rotary_dim": 4},
    "CodeGenForCausalLM": {"rotary_dim": 4, "num_attention_heads": 4},
    "GPTBigCodeForCausalLM": {},
    "BloomForCausalLM": {},
    "OPTForCausalLM": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "MptForCausalLM": {"d_model": 16, "n_heads": 2, "n_layers": 3, "max_seq_len": 16},
    "LlamaForCausalLM": {},
    "MistralForCausalLM": {"sliding_window": 4},
    "MixtralForCausalLM": {"num_local_experts": 2},
    "Qwen2ForCausalLM": {},
    "Qwen3ForCausalLM": {},
    "Qwen2MoeForCausalLM": {
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "GemmaForCausalLM": {},
    "Gemma2ForCausalLM": {},
    "Gemma3ForCausalLM": {},
    "PhiForCausalLM": {},
    "Phi3ForCausalLM": {},
    "StableLmForCausalLM": {},
    "CohereForCausalLM": {},
    "OlmoForCausalLM": {},
    "Olmo2ForCausalLM": {},
    "PersimmonForCausalLM": {},
    "Starcoder2ForCausalLM": {},
    "GraniteForCausalLM": {},
    "NemotronForCausalLM": {},
    "HeliumForCausalLM": {},
    "GlmForCausalLM": {},
    "SmolLM3ForCausalLM": {"no_rope_layers": [1, 0, 1]},
    "DiffLlamaForCausalLM": {"num_key_value_heads": 2},
    "BioGptForCausalLM": {},
    "XGLMForCausalLM": {"d_model": 16, "num_layers": 3, "attention_heads": 2, "ffn_dim": 32},
    "MambaForCausalLM": {"state_size": 4},
    "RwkvForCausalLM": {"attention_hidden_size": 16, "context_length": 16},
}
"""Decoders, with their output matrix."""

SEQUENCES = {
    "T5ForConditionalGeneration": T5,
    "MT5ForConditionalGeneration": T5,
    "UMT5ForConditionalGeneration": T5,
    "LongT5ForConditionalGeneration": T5 | {"local_radius": 3},
    "BartForConditionalGeneration": BOTH,
    "MBartForConditionalGeneration": BOTH,
    "MarianMTModel": BOTH | {"decoder_vocab_size": 30},
    "PegasusForConditionalGeneration": BOTH,
    "BlenderbotForConditionalGeneration": BOTH,
    "M2M100ForConditionalGeneration": BOTH,
}
"""Encoder and decoder."""

IMAGES: dict[str, dict[str, Any]] = {
    "ViT": {},
    "DeiT": {},
    "Beit": {},
    "Data2VecVision": {},
    "Dinov2": {},
    "Dinov2WithRegisters": {"num_register_tokens": 2},
    "ViTMSN": {},
    "IJepa": {},
    "Siglip": {"vision_config": {k: v for k, v in IMAGE.items() if k != "vocab_size"}},
    "CLIP": {"vision_config": {k: v for k, v in IMAGE.items() if k != "vocab_size"}},
}
"""Encoders of images with a classifier."""

STAGED: dict[str, dict[str, Any]] = {
    "Swin": WINDOWS,
    "Swinv2": WINDOWS,
    "ConvNext": SIZED,
    "ConvNextV2": SIZED,
    "ResNet": SIZED | {"embedding_size": 8, "layer_type": "basic"},
    "RegNet": SIZED | {"embedding_size": 8, "groups_width": 8, "layer_type": "y"},
}
"""Encoders of images in stages."""

SOUNDS = ("Wav2Vec2", "Hubert", "WavLM", "UniSpeech")
TIMM = (
    "vit_small_patch32_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
)


def families() -> Iterator[Family]:
    """Every row that is tried."""
    for name, settings in CLASSIFIERS.items():
        yield Family(f"{name}ForSequenceClassification", TEXT | settings, tokens)
    yield Family("XLNetForSequenceClassification", SIZES | {"d_inner": 32, "d_head": 8}, tokens)
    yield Family("FunnelForSequenceClassification", FUNNEL, tokens)
    for name, settings in LANGUAGE.items():
        yield Family(name, DECODER | ENDS | settings, tokens)
    yield Family("FalconForCausalLM", TEXT | ENDS, tokens)
    for name, settings in SEQUENCES.items():
        yield Family(name, settings, sequences)
    yield Family("BartForSequenceClassification", BOTH | ENDS, ended)
    yield Family("GPT2ForSequenceClassification", TEXT, tokens)
    yield Family("LlamaForSequenceClassification", DECODER | ENDS, tokens)
    for name, settings in IMAGES.items():
        yield Family(f"{name}ForImageClassification", IMAGE | settings, images)
    for name, settings in STAGED.items():
        yield Family(f"{name}ForImageClassification", settings, images)
    for name in SOUNDS:
        yield Family(f"{name}ForSequenceClassification", SOUND, waves)
    yield Family("ASTForAudioClassification", SIZES | SPECTRUM, spectra)
    yield Family("WhisperForAudioClassification", BOTH | WHISPER, heard)
    for name in TIMM:
        yield Family(name, {}, images, of_timm=True)


FUNNEL = {
    "vocab_size": 30,
    "block_sizes": [2, 2],
    "d_model": 16,
    "n_head": 2,
    "d_head": 8,
    "d_inner": 32,
    "num_labels": 4,
}
SPECTRUM = {"patch_size": 8, "max_length": 32, "num_mel_bins": 32, "frequency_stride": 8}
SPECTRUM["time_stride"] = 8
WHISPER = {"num_mel_bins": 16, "max_source_positions": 16, "max_target_positions": 16}


def measure(family: Family, directory: Path, plain: PlainProcess) -> Row:
    """Open, score and export random models of a family."""
    torch.manual_seed(0)
    try:
        case = write_case(directory, family.save, family.inputs())
    except ValueError as error:
        return Row(family, "", {}, _sentence(str(error), directory))
    own = case.suite.pretrained.config.model_type in ADAPTERS
    paths = ", ".join(f"`{stack.path}`" for stack in case.suite.adapter.stacks.values())
    differences = {
        "expert": deviation_of_scored_logits(case, family),
        "layers": deviation_layer_by_layer(case),
        **deviation_when_reloaded(case, directory, plain, family.loading),
    }
    return Row(family, "its adapter" if own else f"generic: {paths}", differences)


@torch.inference_mode()
def deviation_of_scored_logits(case: FamilyCase, family: Family) -> float:
    """Greatest difference between the logits that an expert's recipe is scored by, and those of the
    expert as transformers loads it."""
    bank = LayerBank(case.suite, shared="one")
    logits = Evaluator(bank, subsets=1, fused=False).logits(Recipe.uniform("one", bank), "one")
    expert = family.load(case.suite.experts["one"].location)(**case.inputs).logits
    return float((logits.reshape(expert.shape) - expert).abs().max())


def _sentence(refusal: str, directory: Path) -> str:
    """A refusal in one line of the table, without the folder that it was met in."""
    shown = re.sub(rf"\s*\({re.escape(str(directory))}\S*\)", "", refusal)
    return shown.replace(f"{directory}/", "").replace("|", "\\|").replace("\n", " ")


def table(rows: list[Row]) -> str:
    opened = [row for row in rows if not row.refusal]
    head = "| class | opened by | scored as itself | layer by layer | skipped / stacked / mixed |"
    return "\n".join(
        [
            f"{len(rows)} families were tried, {len(opened)} open.",
            "",
            head,
            "|---|---|---|---|---|",
            *map(str, rows),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the table in the document")
    parser.add_argument("--only", default="", help="families whose class has this in its name")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    plain, rows = PlainProcess(), []
    for family in families():
        if arguments.only in family.model_class:
            with tempfile.TemporaryDirectory() as directory:
                rows.append(measure(family, Path(directory), plain))
            print(rows[-1], flush=True)
    plain.close()
    if wrong := [row.family.model_class for row in rows if row.wrong]:
        raise SystemExit(f"opened, but not equal to the model itself: {', '.join(wrong)}")
    if arguments.write:
        before, rest = DOCUMENT.read_text().split(BEGIN)
        after = rest.split(END)[1]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")


if __name__ == "__main__":
    main()
