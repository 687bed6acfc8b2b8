"""T5: two segments, position biases that belong to no layer, and an output matrix tied or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from merge_gym import LayerBank, Recipe
from merge_gym.exports.checkpoints import export
from merge_gym.merging.assembly import assemble
from merge_gym.models import load_checkpoint
from merge_gym.models.parameters import SHARED
from merge_gym.recipe import Layer
from tests.models.family import (
    TOLERANCE,
    FamilyCase,
    auto,
    changed_by_final,
    components,
    deviation_from_expert,
    deviation_layer_by_layer,
    deviation_of_scaled_branches,
    deviation_when_reloaded,
    padded_tokens,
    write_case,
)

AUTO = transformers.AutoModelForSeq2SeqLM
WEIGHTS = "model.safetensors"


SIZES = {
    "vocab_size": 30,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
    "initializer_factor": 0.5,
    "decoder_start_token_id": 0,
}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
KINDS = {
    "T5": transformers.T5Config(**SIZES),
    "T5-1.1": transformers.T5Config(**SIZES, **GATED),
    "mT5": transformers.MT5Config(**SIZES, **GATED),
}


def save(directory: Path, config: transformers.PretrainedConfig, own_output: bool) -> None:
    """Random weights, with or without an output matrix of their own, beside a config.json as the
    hub's, in which `tie_word_embeddings` means that the output is scaled."""
    model = AUTO.from_config(config)
    if own_output:
        model.lm_head = torch.nn.Linear(config.d_model, config.vocab_size, bias=False)
    model.save_pretrained(directory)
    text = json.loads((directory / "config.json").read_text())
    text["tie_word_embeddings"] = text.pop("scale_decoder_outputs", False)
    (directory / "config.json").write_text(json.dumps(text))


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory) -> FamilyCase:
    padded = padded_tokens()
    answers = padded_tokens()["input_ids"].flip(0)[:, :5]
    return write_case(
        tmp_path_factory.mktemp(request.param),
        lambda directory: save(directory, KINDS[request.param], own_output=request.param != "T5"),
        padded
        | {"decoder_input_ids": answers, "decoder_attention_mask": padded["attention_mask"][:, :5]},
    )


def test_t5_assembled_from_one_expert_equals_it(case):
    expert = AUTO.from_pretrained(case.suite.experts["one"].location)
    assert deviation_from_expert(case, expert) <= TOLERANCE


def test_t5_layer_by_layer_equals_its_forward(case):
    assert deviation_layer_by_layer(case) <= TOLERANCE


def test_t5_exports_reload_with_equal_logits(case, plain, tmp_path):
    deviations = deviation_when_reloaded(case, tmp_path, plain, auto(AUTO))
    assert max(deviations.values()) <= TOLERANCE, deviations


def test_t5_output_matrix_is_shared_and_said_to_be_untied_where_the_files_hold_one(case, tmp_path):
    bank = LayerBank(case.suite)
    recipe = Recipe.uniform("average", bank)
    export(recipe, case.suite, tmp_path / "export")
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    own = "lm_head.weight" in load_file(Path(case.suite.experts["one"].location, WEIGHTS))
    assert ("lm_head.weight" in bank.shared_tensors(bank.candidates.shared)) == own
    assert config["tie_word_embeddings"] != own


def test_t5_position_biases_are_shared_and_no_layer_has_its_own(case):
    bank = LayerBank(case.suite)
    one = bank.source("one")
    for segment in ("encoder", "decoder"):
        name = f"{segment}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        assert name in bank.shared_tensors(bank.candidates.shared)
        first, second = (bank.layer(segment, Layer.of(index, one)) for index in (0, 1))
        assert first.keys() == second.keys()


def test_t5_runs_without_any_encoder_or_decoder_layer(case):
    bank = LayerBank(case.suite)
    empty = Recipe(case.suite.digest, bank.candidates.shared, (("encoder", ()), ("decoder", ())))
    logits = assemble(empty, bank, "one")(**case.inputs).logits
    assert logits.shape == (3, 5, 30)


PUBLISHED = {  # what the config.json on the hub says, but for the number of layers
    "architectures": ["T5ForConditionalGeneration"],
    "d_kv": 64,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "n_positions": 512,
    "num_layers": 1,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "task_specific_params": {"summarization": {"prefix": "summarize: "}},
    "vocab_size": 32128,
}
PUBLISHED_SIZES = {
    "google-t5/t5-small": {"d_model": 512, "d_ff": 2048, "num_heads": 8},
    "google-t5/t5-base": {"d_model": 768, "d_ff": 3072, "num_heads": 12},
}


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_checkpoints_as_published_open(name: str, tmp_path) -> None:
    config = PUBLISHED | PUBLISHED_SIZES[name]
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**config)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tensors = load_file(tmp_path / WEIGHTS)
    tensors[unused] = torch.zeros(32, config["num_heads"])  # a remnant of the first training code
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt"})

    checkpoint = load_checkpoint(str(tmp_path))
    assert checkpoint.config.decoder_start_token_id == 0
    assert checkpoint.config.scale_decoder_outputs
    assert {group[0] for group in checkpoint.parameters.layout.groups} == {"encoder", "decoder", ""}
    assert checkpoint.parameters.layout.size == sum(value.numel() for value in model.parameters())
    shared = checkpoint.parameters.group(SHARED)
    assert torch.equal(shared["shared.weight"], model.lm_head.weight)
    assert "lm_head.weight" not in shared


EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def rename_embeddings(directory: Path, embeddings: dict[str, torch.Tensor]) -> None:
    tensors = load_file(directory / WEIGHTS)
    del tensors["shared.weight"]
    save_file(tensors | embeddings, directory / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("names", [EMBEDDINGS[:1], EMBEDDINGS, EMBEDDINGS[2:]])
def test_an_untied_output_matrix_is_read_whatever_the_embeddings_are_called(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    save(tmp_path, KINDS["T5-1.1"], own_output=True)
    embeddings = torch.randn(30, 16)
    rename_embeddings(tmp_path, {name: embeddings.clone() for name in names})

    checkpoint = load_checkpoint(str(tmp_path))
    shared = checkpoint.parameters.group(SHARED)
    output = load_file(tmp_path / WEIGHTS)["lm_head.weight"]
    assert torch.equal(shared["shared.weight"], embeddings)
    assert torch.equal(shared["lm_head.weight"], output)
    assert not shared.keys() & set(EMBEDDINGS[1:])
    assert not checkpoint.config.scale_decoder_outputs


def test_an_output_matrix_that_the_files_lack_is_tied_and_stays_unscaled(tmp_path: Path) -> None:
    save(tmp_path, KINDS["T5-1.1"], own_output=False)
    checkpoint = load_checkpoint(str(tmp_path))
    assert "lm_head.weight" not in checkpoint.parameters.group(SHARED)
    assert checkpoint.config.tie_word_embeddings
    assert not checkpoint.config.scale_decoder_outputs


def test_encoder_embeddings_that_differ_from_the_shared_ones_are_refused(tmp_path: Path) -> None:
    save(tmp_path, KINDS["T5-1.1"], own_output=True)
    rename_embeddings(tmp_path, {name: torch.randn(30, 16) for name in EMBEDDINGS[:2]})
    with pytest.raises(ValueError, match=r"not tied: encoder\.embed_tokens\.weight"):
        load_checkpoint(str(tmp_path))


def test_t5_layers_are_attention_mlp_and_rest(case):
    found = components(case)
    assert found["attention"] == {
        f"layer.{number}.{kind}.{name}"
        for number, kind in enumerate(("SelfAttention", "EncDecAttention"))
        for name in "qkvo"
    }
    assert {name.rsplit(".", 1)[0] for name in found["mlp"]} == {
        "layer.1.DenseReluDense",
        "layer.2.DenseReluDense",
    }
    assert found["rest"] == {f"layer.{number}.layer_norm" for number in range(3)}


def test_t5_writes_scale_all_branches(case):
    branches = ("layer.0.SelfAttention", "layer.1.EncDecAttention", "DenseReluDense")
    assert deviation_of_scaled_branches(case, *branches) <= TOLERANCE


def test_t5_final_tensors_are_read_after_the_last_layer_only(case):
    assert changed_by_final(case) == {"logits"}
