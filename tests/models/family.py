"""What every family is tested for, on random models of a few narrow layers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merge_gym import LayerBank, Recipe, Suite
from merge_gym.exports.checkpoints import checkpoint_places, export
from merge_gym.merging.assembly import assemble
from merge_gym.models import check_forward, load_checkpoint, torchvision_shim
from merge_gym.recipe import LAYER_COMPONENTS, Layer
from merge_gym.suites import Split, Task

EXPERTS = ("one", "two")
TOLERANCE = 1e-6

NARROW = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.3,
    "pad_token_id": 1,
}
"""Sizes of a model that takes moments, by the names that most configurations have."""

Save = Callable[[Path], object]
"""Writes a checkpoint of the family, with fresh random weights."""

PLAIN = """
import importlib.util, json, sys, torch
spec = importlib.util.spec_from_file_location("shim", sys.argv[1])
shim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shim)
shim.install()
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
for request in sys.stdin:
    code, directories, inputs = json.loads(request)
    exec(code)
    for directory in directories:
        with torch.inference_mode():
            output = logits(load(directory).eval(), load_file(inputs))
        save_file({"logits": output}, directory + ".st")
    assert "merge_gym" not in sys.modules
    print("done", flush=True)
"""


class PlainProcess:
    """A fresh process that does not know this library and loads its exports."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PLAIN, torchvision_shim.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def logits(self, code: str, directories: Sequence[Path], inputs: Path) -> list[Tensor]:
        """Logits of each checkpoint; `code` defines `load(directory)`, `logits(model, inputs)`."""
        request = [code, [str(directory) for directory in directories], str(inputs)]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n", "the plain process failed"
        return [load_file(f"{directory}.st")["logits"] for directory in directories]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def auto(auto_class: type) -> str:
    """Code for `PlainProcess`: models that an Auto class of transformers loads."""
    return (
        f"import transformers\n"
        f"load = transformers.{auto_class.__name__}.from_pretrained\n"
        f"logits = lambda model, inputs: model(**inputs).logits"
    )


@dataclass(frozen=True)
class FamilyCase:
    """A suite of random checkpoints of one family, and a batch of inputs."""

    suite: Suite
    inputs: Mapping[str, Tensor]

    @property
    def bank(self) -> LayerBank:
        return LayerBank(self.suite)


def write_case(directory: Path, save: Save, inputs: Mapping[str, Tensor]) -> FamilyCase:
    """Write a pretrained model and two experts with `save`, and open them as a suite, after
    the check that they run layer by layer."""
    for number, name in enumerate(("pretrained", *EXPERTS)):
        torch.manual_seed(number)
        save(directory / name)
    experts = {name: load_checkpoint(str(directory / name)) for name in EXPERTS}
    check_forward(experts["one"], {name: value[:2] for name, value in inputs.items()})
    split = Split(inputs, torch.zeros(len(next(iter(inputs.values()))), dtype=torch.int64))
    suite = Suite(
        name="family",
        description="",
        licence="",
        pretrained=load_checkpoint(str(directory / "pretrained"), need_head=False),
        experts=experts,
        tasks={
            name: Task(name, name, "accuracy", {"search": split, "test": split}) for name in EXPERTS
        },
        operators=("average", {"name": "ties", "density": 0.5}),
        shared="average",
    )
    return FamilyCase(suite, inputs)


def recipes(bank: LayerBank) -> dict[str, Recipe]:
    """A skipped, a stacked and a mixed recipe, and where the family has components, one of them
    with scales; the stacked one begins with the last layer."""
    one, two, average, ties = bank.candidates.sources
    family = bank.candidates.family
    apart = tuple(zip(LAYER_COMPONENTS, (one, average, two), strict=True))
    kinds = {
        "skipped": lambda size: [Layer.of(size - 1, two)],
        "stacked": lambda size: [Layer.of(size - 1, one), Layer.of(0, two), Layer.of(0, two)],
        "mixed": lambda size: [
            Layer.of(index, source)
            for index, source in zip(range(size), (average, ties, one), strict=False)
        ],
    }
    if family.components and family.scales:
        kinds["scaled"] = lambda size: [
            Layer(index, apart, scale=0.8 + 0.1 * index, stream=1.2) for index in range(size)
        ]
    ends = (("stem", one), ("norm", two)) if family.norm else bank.candidates.shared
    return {
        name: Recipe(
            bank.suite.digest,
            ends if name == "scaled" else bank.candidates.shared,
            tuple(
                (segment, tuple(layers(size))) for segment, size in bank.candidates.segments.items()
            ),
        )
        for name, layers in kinds.items()
    }


@torch.inference_mode()
def deviation_from_expert(case: FamilyCase, expert: torch.nn.Module) -> float:
    """Greatest difference between a model put together from one expert and that expert, as
    loaded without this library."""
    ours = one_expert(case)(**case.inputs).logits
    theirs = expert.eval()(**case.inputs).logits
    return float((ours - theirs).abs().max())


@torch.inference_mode()
def deviation_layer_by_layer(case: FamilyCase) -> float:
    """Greatest difference between enter → layers → tail and the models' own forward."""
    models = [assemble(recipe, case.bank, "one") for recipe in recipes(case.bank).values()]
    return max(
        float((run_by_layers(case, model) - model(**case.inputs).logits).abs().max())
        for model in models
    )


def one_expert(case: FamilyCase) -> torch.nn.Module:
    """A model put together from one expert."""
    bank = LayerBank(case.suite, shared="one")
    return assemble(Recipe.uniform("one", bank), bank, "one")


def components(case: FamilyCase) -> dict[str, set[str]]:
    """{component: the names of its tensors in a layer, without `weight` and `bias`}."""
    adapter, found = case.suite.adapter, {}
    for (segment, _), slots in case.suite.pretrained.parameters.layout.groups.items():
        for slot in slots if segment else ():
            module = slot.name.removesuffix(".weight").removesuffix(".bias")
            found.setdefault(adapter.component(slot.name), set()).add(module)
    return found


@torch.inference_mode()
def deviation_of_scaled_branches(case: FamilyCase, *branches: str) -> float:
    """Greatest difference of a logit between a model whose `writes` are multiplied by a number,
    and one where hooks multiply the outputs of each layer's `branches` (ends of their names)."""
    scaled, hooked = one_expert(case).double(), one_expert(case).double()
    before = hooked(**_doubled(case.inputs)).logits
    for layer in _all_layers(case, scaled):
        for name, tensor in layer.named_parameters():
            if name in case.suite.adapter.writes:
                tensor.mul_(1.7)
    for layer in _all_layers(case, hooked):
        found = [module for name, module in layer.named_modules() if name.endswith(branches)]
        assert len(found) >= 2
        for module in found:
            module.register_forward_hook(_multiply)
    ours, theirs = (model(**_doubled(case.inputs)).logits for model in (scaled, hooked))
    assert (ours - before).abs().max() > 1e-3
    return float((ours - theirs).abs().max())


def _multiply(module: torch.nn.Module, inputs: object, output: object) -> object:
    return (1.7 * output[0], *output[1:]) if isinstance(output, tuple) else 1.7 * output


def _doubled(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}


def _all_layers(case: FamilyCase, model: torch.nn.Module) -> list[torch.nn.Module]:
    segments = case.suite.adapter.layers(model).values()
    return [module for modules in segments for module in modules]


@torch.inference_mode()
def deviation_of_scaled_outputs(case: FamilyCase) -> float:
    """Greatest difference between a layer's output with its `output_norm` multiplied by a number,
    and that number times its output."""
    adapter, model = case.suite.adapter, one_expert(case).double()
    hidden, context = adapter.enter(model, "layers", _doubled(case.inputs), None)
    layer = adapter.layers(model)["layers"][0]
    before = adapter.layer(layer, hidden, context)
    for name in adapter.output_norm:
        layer.get_parameter(name).mul_(1.7)
    return float((adapter.layer(layer, hidden, context) - 1.7 * before).abs().max())


@torch.inference_mode()
def changed_by_final(case: FamilyCase) -> set[str]:
    """Which of `hidden` (all hidden states of the first segment) and `logits` change with each of
    the tensors that `final` names; there must be some."""
    adapter, changed = case.suite.adapter, set()
    model = one_expert(case)
    final = [
        tensor
        for name, tensor in model.named_parameters()
        if adapter.place(name).part == "shared" and adapter.shared_component(name) == "norm"
    ]
    assert final
    for tensor in final:
        hidden, logits = _first_segment(case, model), model(**case.inputs).logits
        tensor.mul_(torch.rand_like(tensor) + 1).add_(torch.rand_like(tensor))
        if not torch.equal(hidden, _first_segment(case, model)):
            changed.add("hidden")
        if not torch.equal(logits, model(**case.inputs).logits):
            changed.add("logits")
        else:
            changed.add("nothing")
    return changed


def _first_segment(case: FamilyCase, model: torch.nn.Module) -> Tensor:
    adapter = case.suite.adapter
    segment, layers = next(iter(adapter.layers(model).items()))
    hidden, context = adapter.enter(model, segment, case.inputs, None)
    states = [hidden]
    for module in layers:
        states.append(adapter.layer(module, states[-1], context))
    return torch.stack(states)


@torch.inference_mode()
def deviation_of_features(case: FamilyCase) -> float:
    """Greatest difference between the head's last linear layer of `features`, and `forward`."""
    adapter, model = case.suite.adapter, one_expert(case)
    states = _first_segment(case, model)
    features = adapter.features(model, states[-1], case.inputs)
    readout = model.get_submodule(adapter.readout)
    assert isinstance(readout, torch.nn.Linear)
    assert features.shape == (len(states[-1]), readout.in_features)
    assert torch.equal(readout(features), adapter.tail(model, states[-1], case.inputs))
    return float((readout(features) - model(**case.inputs).logits).abs().max())


def run_by_layers(case: FamilyCase, model: torch.nn.Module) -> Tensor:
    adapter, hidden = case.suite.adapter, None
    for segment, layers in adapter.layers(model).items():
        hidden, context = adapter.enter(model, segment, case.inputs, hidden)
        for module in layers:
            hidden = adapter.layer(module, hidden, context)
    return adapter.tail(model, hidden, case.inputs)


@torch.inference_mode()
def deviation_when_reloaded(
    case: FamilyCase, directory: Path, plain: PlainProcess, code: str
) -> dict[str, float]:
    """For each recipe: the greatest difference between its logits here and those of its export in
    a process without this library."""
    inputs = directory / "inputs.st"
    save_file({name: value.contiguous() for name, value in case.inputs.items()}, inputs)
    ours = {}
    for name, recipe in recipes(case.bank).items():
        export(recipe, case.suite, directory / name)
        ours[name] = assemble(recipe, case.bank, "one")(**case.inputs).logits
    places = [checkpoint_places(case.suite, directory / name)["one"] for name in ours]
    theirs = plain.logits(code, places, inputs)
    return {
        name: float((logits - other).abs().max())
        for (name, logits), other in zip(ours.items(), theirs, strict=True)
    }


def padded_tokens() -> dict[str, torch.Tensor]:
    """Three sequences of up to seven of 30 tokens, two of them padded at the end."""
    mask = torch.ones(3, 7, dtype=torch.int64)
    mask[1, 4:] = mask[2, 2:] = 0
    tokens = torch.randint(5, 30, mask.shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": tokens.where(mask == 1, 1), "attention_mask": mask}
