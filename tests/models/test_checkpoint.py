"""Reading checkpoints: what comes in, and what is refused before any weight is read."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTForImageClassification, ViTModel

from merge_gym.models import Layout, Parameters, Place, load_checkpoint


@pytest.fixture
def directory(suite_file, tmp_path):
    """A copy of one expert that a test may damage."""
    return shutil.copytree(suite_file.parent / "low", tmp_path / "low")


def reweigh(directory, edit):
    file = directory / "model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def test_every_tensor_comes_in_once_as_layer_shared_or_head(suite_file):
    checkpoint = load_checkpoint(str(suite_file.parent / "low"))
    expected = ViTForImageClassification.from_pretrained(suite_file.parent / "low").state_dict()
    found = dict(checkpoint.head)
    for (segment, index), slots in checkpoint.parameters.layout.groups.items():
        prefix = f"vit.{segment}.{index}." if segment else ""
        tensors = checkpoint.parameters.group((segment, index))
        assert tensors.keys() == {slot.name for slot in slots}
        found |= {prefix + name: tensor for name, tensor in tensors.items()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert checkpoint.head.keys() == {"classifier.weight", "classifier.bias"}
    assert (checkpoint.dtype, checkpoint.parameters.flat.dtype) == ("F32", torch.float32)


def test_reading_says_nothing(suite_file, capfd):
    load_checkpoint(str(suite_file.parent / "low"))
    assert capfd.readouterr() == ("", "")


def test_a_directory_without_configuration_is_refused(directory):
    (directory / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"low holds no config\.json: expected"):
        load_checkpoint(str(directory))


def test_a_directory_without_weights_is_refused(directory):
    (directory / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"low holds no \.safetensors file"):
        load_checkpoint(str(directory))


def test_a_pickle_is_not_read_and_the_way_out_is_named(directory):
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(
        FileNotFoundError, match=r"no \.safetensors file; pytorch_model\.bin is pickle.*Convert it"
    ):
        load_checkpoint(str(directory))


@pytest.mark.parametrize("left", [0, 5, 300, -1])
def test_a_truncated_file_is_refused_by_its_name(directory, left):
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"low/model\.safetensors is not a complete .*again"):
        load_checkpoint(str(directory))


def test_an_architecture_that_transformers_does_not_know_is_refused_by_its_type(directory):
    config = directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "vitt"}))
    with pytest.raises(ValueError, match=r"low is of model type 'vitt', which .* does not know"):
        load_checkpoint(str(directory))


@pytest.mark.parametrize("kind", ["missing", "unexpected", "mismatched"])
def test_weights_that_do_not_fit_the_configuration_are_refused_by_name(directory, kind):
    name = "vit.layernorm.weight"

    def edit(tensors):
        if kind == "missing":
            del tensors[name]
        elif kind == "unexpected":
            tensors["vit.layernorm.scale"] = torch.ones(16)
        else:
            tensors[name] = torch.ones(24)

    reweigh(directory, edit)
    with pytest.raises(ValueError, match=rf"low do not fit its config\.json: {kind}: .*layernorm"):
        load_checkpoint(str(directory))


def test_nan_and_inf_are_refused_with_the_tensors(directory):
    def edit(tensors):
        tensors["classifier.bias"][1] = float("nan")
        tensors["vit.layernorm.bias"][0] = float("-inf")

    reweigh(directory, edit)
    with pytest.raises(
        ValueError, match=r"low holds NaN or Inf in classifier\.bias, vit\.layernorm\.bias;"
    ):
        load_checkpoint(str(directory))


def test_a_checkpoint_without_head_is_refused_where_one_is_needed(suite_file, tmp_path):
    ViTModel.from_pretrained(suite_file.parent / "low").save_pretrained(tmp_path / "trunk")
    with pytest.raises(ValueError, match=r"trunk holds no complete task head \(classifier"):
        load_checkpoint(str(tmp_path / "trunk"))
    trunk = load_checkpoint(str(tmp_path / "trunk"), need_head=False)
    whole = load_checkpoint(str(suite_file.parent / "low"))
    assert trunk.head == {}
    assert torch.equal(trunk.parameters.flat, whole.parameters.flat)


PLACES = {
    Place("shared", "embedding"): (2,),
    Place("layer", "weight", "encoder", 0): (2, 3),
    Place("layer", "bias", "encoder", 0): (3,),
    Place("head", "classifier"): (7,),
    Place("layer", "weight", "decoder", 0): (4,),
}


@pytest.fixture
def parameters():
    layout = Layout.of(PLACES)
    return Parameters(layout, torch.arange(layout.size))


def test_layers_lie_end_to_end_with_the_shared_parameters_last(parameters):
    spans = {group: parameters.layout.span(group) for group in parameters.layout.groups}
    assert spans == {("encoder", 0): slice(0, 9), ("decoder", 0): slice(9, 13),
                     ("", -1): slice(13, 15)}  # fmt: skip
    assert parameters.layout.size == 15


def test_a_group_gives_views_of_the_vector_in_the_tensors_shapes(parameters):
    group = parameters.group(("encoder", 0))
    assert group["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert group["bias"].tolist() == [6, 7, 8]
    parameters.flat[6] = -1
    assert group["bias"].tolist() == [-1, 7, 8]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("model", [(0, 15, (15,))]),
        ("layer", [(0, 9, (9,)), (9, 13, (4,)), (13, 15, (2,))]),
        ("tensor", [(0, 6, (2, 3)), (6, 9, (3,)), (9, 13, (4,)), (13, 15, (2,))]),
    ],
)
def test_stretches_cover_the_vector_once_in_the_scopes_pieces(parameters, scope, expected):
    stretches = [(span.start, span.stop, shape) for span, shape in parameters.stretches(scope)]
    assert stretches == expected


def test_gathering_copies_the_tensors_into_their_slots(parameters):
    tensors = {
        (group, name): tensor
        for group in parameters.layout.groups
        for name, tensor in parameters.group(group).items()
    }
    gathered = Parameters.gather(parameters.layout, tensors)
    assert torch.equal(gathered.flat, parameters.flat)
    assert gathered.flat.data_ptr() != parameters.flat.data_ptr()


def test_an_empty_model_has_no_parameters():
    assert Layout.of({}).size == 0
