"""A library on disk, and the model that is made of it: no suite and no remote code needed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from merge_gym.files import read_json, write_json
from merge_gym.library import SHARED, Library, Module, chain
from merge_gym.merging.bank import LayerBank
from merge_gym.merging.compression import restored, restored_residual
from merge_gym.merging.router import Router, read_features
from merge_gym.models.adapter import Inputs, adapter_for
from merge_gym.models.weights import build, fill
from merge_gym.recipe import Recipe, Source

from transformers import (  # isort: skip  # after merge_gym.models, which mends torchvision
    AutoConfig,
    PreTrainedModel,
)

FORMAT = "merge_gym.modules/1"
WEIGHTS, DESCRIPTION, ROUTER = "library.safetensors", "library.json", "router.safetensors"


class LibraryModel(nn.Module):
    """A model for each task, of common modules.

    Attributes:
        library: which modules each task's model is made of.
        tasks: their names, in the order of `models`.
        models: as plain transformers has them; modules that tasks share are the same tensors.
        router: tells the task of an input; None where there is none.
    """

    def __init__(
        self, library: Library, models: Sequence[PreTrainedModel], router: Router | None
    ) -> None:
        super().__init__()
        self.library, self.tasks = library, library.tasks
        self.models, self.router = nn.ModuleList(models), router

    @torch.inference_mode()
    def route(self, inputs: Inputs) -> list[str]:
        """The task of each input, as the router tells it; ValueError where there is no router."""
        if self.router is None:
            raise ValueError("the library has no router: give the tasks of the inputs")
        first: Any = self.models[0]
        features = read_features(self.router.features, adapter_for(first.config), first, inputs)
        return [self.router.tasks[number] for number in self.router(features).argmax(1).tolist()]

    @torch.inference_mode()
    def predict(self, inputs: Inputs, tasks: Sequence[str] | None = None) -> list[tuple[str, int]]:
        """(task, class) of each input of a batch, inputs of one task run together.

        Args:
            inputs: what a model is called with, of n examples.
            tasks: of each example; None asks the router.

        Raises ValueError for a task that is unknown, and another number of them than examples.
        """
        told = self.route(inputs) if tasks is None else list(tasks)
        if unknown := set(told) - set(self.tasks):
            raise ValueError(f"the tasks are {', '.join(self.tasks)}, got {sorted(unknown)}")
        if any(len(values) != len(told) for values in inputs.values()):
            raise ValueError(f"{len(told)} tasks were given for a batch of another size")
        classes = torch.zeros(len(told), dtype=torch.long)
        for task, model in zip(self.tasks, self.models, strict=True):
            rows = torch.tensor([row for row, name in enumerate(told) if name == task]).long()
            if len(rows):
                batch = {name: values[rows] for name, values in inputs.items()}
                classes[rows] = model(**batch).logits.argmax(-1).cpu()
        return list(zip(told, classes.tolist(), strict=True))

    def save_task(self, task: str, directory: str | Path) -> None:
        """Write one task's model as a plain Hugging Face checkpoint."""
        self.library.recipe(task)
        model: Any = self.models[self.tasks.index(task)]
        model.save_pretrained(directory)


def export_library(
    library: Library, bank: LayerBank, directory: str | Path, router: Router | None = None
) -> Path:
    """Write a library's distinct modules once each, in the bank's precision.

    The directory holds `library.safetensors`, `library.json` (the recipe of each task, the modules
    with their sources and digests) and, if one is given, `router.safetensors`. It is written under
    a temporary name and renamed when complete; an earlier library that is there is replaced.

    Raises:
        ValueError: a library of another suite or with scales, a router for other tasks.
        FileExistsError: `directory` holds something else.
    """
    target = Path(directory)
    if target.exists() and any(target.iterdir()) and not (target / DESCRIPTION).is_file():
        raise FileExistsError(f"{target} is there and is no library: name another directory")
    if router is not None and set(router.tasks) != set(library.tasks):
        raise ValueError(
            f"the router tells {', '.join(router.tasks)} apart, the library's tasks are "
            f"{', '.join(library.tasks)}"
        )
    library = Library.of({task: bank.resolve(of) for task, of in library.recipes})
    _check_unscaled(library)
    tensors, described = _stored(library, bank)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        staged = Path(temporary) / "library"
        staged.mkdir()
        save_file(tensors, staged / WEIGHTS)
        if router is not None:
            save_file(router.state_dict(), staged / ROUTER)
            described["router"] = {
                "tasks": list(router.tasks),
                "features": router.features,
                "kind": router.kind,
                "digest": _digest(router.state_dict()),
            }
        write_json(staged / DESCRIPTION, described)
        if target.exists():
            target.rename(Path(temporary) / "replaced")
        staged.rename(target)
    return target


def load_library(directory: str | Path) -> LibraryModel:
    """The model that a library on disk makes, in float32 and evaluation mode.

    Raises ValueError where a file is missing, damaged, or not what `library.json` says.
    """
    folder = Path(directory)
    if not (folder / DESCRIPTION).is_file():
        raise ValueError(f"{folder} holds no library (no {DESCRIPTION})")
    described = read_json(folder / DESCRIPTION)
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ValueError(f"{folder / DESCRIPTION} is not of format {FORMAT!r}")
    try:
        library = Library.from_dict(described["library"])
        tensors = _read(folder / WEIGHTS)
        modules = _restored(described["modules"], described["bits"], tensors, folder)
        heads = {task: _head(task, described, tensors, folder) for task in library.tasks}
        configs = {task: described["tasks"][task]["config"] for task in library.tasks}
        router = _router(described["router"], folder) if described.get("router") else None
        shapes = {module.place: () for module in modules}
        models = [
            _model(recipe, configs[task], modules, heads[task], shapes)
            for task, recipe in library.recipes
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / DESCRIPTION} was changed or cut: {error!r}") from None
    if router is not None and set(router.tasks) != set(library.tasks):
        raise ValueError(f"{folder / ROUTER} is a router for {', '.join(router.tasks)}")
    return LibraryModel(library, models, router).eval()


def _check_unscaled(library: Library) -> None:
    layers = [of for _, recipe in library.recipes for _, stack in recipe.segments for of in stack]
    if any((of.scale, of.stream) != (1, 1) for of in layers):
        raise ValueError("a library's modules are stored without scales: export recipes that have")
    if any(recipe.heads is not None for _, recipe in library.recipes):
        raise ValueError("a library has the experts' own heads, not calibrated ones")


def _stored(library: Library, bank: LayerBank) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every stored tensor by name, and what library.json says."""
    suite, modules = bank.suite, []
    tensors: dict[str, Tensor] = {}
    for number, module in enumerate(library.modules(bank.candidates.shapes)):
        stored = bank.stored(module)
        flat = {
            f"{number}/{name}/{what}": tensor.contiguous()
            for name, of in stored.items()
            for what, tensor in of.items()
        }
        tensors |= flat
        modules.append(
            {
                "place": list(module.place),
                "source": module.source.to_dict(),
                "shapes": dict(bank.tensor_shapes(module)),
                "digest": _digest(flat),
            }
        )
    tasks = {}
    for task in library.tasks:
        expert = suite.experts[suite.tasks[task].expert]
        head = {f"head/{task}/{name}": of.contiguous() for name, of in expert.head.items()}
        tensors |= head
        tasks[task] = {"config": expert.config.to_dict(), "digest": _digest(head)}
    copied = {name: tensor.clone() for name, tensor in tensors.items()}
    described = {
        "format": FORMAT,
        "suite": {"name": suite.name, "digest": suite.digest},
        "bits": bank.bits,
        "library": library.to_dict(),
        "tasks": tasks,
        "modules": modules,
        "router": None,
    }
    return copied, described


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from None


def _of(tensors: Mapping[str, Tensor], prefix: str, digest: str, folder: Path) -> dict[str, Tensor]:
    """The tensors under a prefix, as their digest says they were written."""
    found = {name: of for name, of in tensors.items() if name.startswith(prefix)}
    if _digest(found) != digest:
        raise ValueError(f"{folder / WEIGHTS} was changed: {prefix} is not as it was written")
    return found


def _restored(
    described: Sequence[Any], bits: int | None, tensors: Mapping[str, Tensor], folder: Path
) -> dict[Module, dict[str, Tensor]]:
    """{module: its tensors}, residuals added to their bases, which stand before them."""
    modules: dict[Module, dict[str, Tensor]] = {}
    for number, entry in enumerate(described):
        segment, index, component = entry["place"]
        module = Module((segment, index, component), Source.from_dict(entry["source"]))
        found = _of(tensors, f"{number}/", entry["digest"], folder)
        values = {}
        for name, shape in entry["shapes"].items():
            prefix = f"{number}/{name}/"
            stored = {
                key.removeprefix(prefix): of for key, of in found.items() if key.startswith(prefix)
            }
            if module.source.base is None:
                values[name] = restored(stored, tuple(shape), bits).float()
            else:
                base = modules[Module(module.place, module.source.base)][name]
                values[name] = base + restored_residual(stored, tuple(shape))
        modules[module] = values
    return modules


def _head(
    task: str, described: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> dict[str, Tensor]:
    prefix = f"head/{task}/"
    found = _of(tensors, prefix, described["tasks"][task]["digest"], folder)
    return {name.removeprefix(prefix): of.float() for name, of in found.items()}


def _router(described: Mapping[str, Any], folder: Path) -> Router:
    tensors = _read(folder / ROUTER)
    if _digest(tensors) != described["digest"]:
        raise ValueError(f"{folder / ROUTER} is not the router that the library was written with")
    router = Router(
        tuple(described["tasks"]), described["features"], described["kind"], len(tensors["mean"])
    )
    router.load_state_dict(tensors)
    return router.eval()


def _model(
    recipe: Recipe,
    config: Mapping[str, Any],
    modules: Mapping[Module, Mapping[str, Tensor]],
    head: Mapping[str, Tensor],
    shapes: Any,
) -> PreTrainedModel:
    """One task's model; its tensors are those of the modules."""
    known = dict(config)
    original = AutoConfig.for_model(known.pop("model_type"), **known)
    adapter = adapter_for(original)
    layers = {segment: [of.index for of in stack] for segment, stack in recipe.segments}
    model = build(adapter, adapter.config(layers, original)).eval().requires_grad_(False)
    tensors = dict(head)
    positions = {
        (segment, of.index): position
        for segment, stack in recipe.segments
        for position, of in enumerate(stack)
    }
    for module in chain(recipe, shapes):
        segment, index, _ = module.place
        for name, tensor in modules[module].items():
            outside = (segment, index) == SHARED
            full = (
                name if outside else adapter.tensor_name(segment, positions[segment, index], name)
            )
            tensors[full] = tensor
    if missing := fill(model, tensors, assign=True):
        raise ValueError(f"the library lacks {', '.join(sorted(missing)[:5])}")
    return model


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
