"""Modules whose weights are the bank's own tensors: assembly by reference."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from merge_gym.evaluation.products import convolve
from merge_gym.memory import Memo
from merge_gym.merging.bank import LayerBank
from merge_gym.models.storage import physical_memory
from merge_gym.models.weights import build, fill
from merge_gym.recipe import Layer, Parts

DIGESTS = 16 * 2**20
"""Bytes of fingerprints that are remembered."""

DIGEST_BYTES = 1024
"""What one of them takes with its key."""

OVERHEAD = 64 * 2**10
"""Bytes of a module beside its weights, measured on a small ViT's layer."""


class Modules:
    """The stems, layers and tails that recipes are run with, built once each.

    Args:
        bank: where the weights come from.
        device, dtype: where and in what precision models run.
        placement: `device`: every layer that was asked for stays on the device; on the CPU, in the
            bank's own precision, its parameters are the bank's tensors and nothing is copied.
            `host`: the device holds one layer of each kind, filled from the bank when it is needed.
    """

    def __init__(
        self, bank: LayerBank, device: torch.device, dtype: torch.dtype, placement: str
    ) -> None:
        self.bank = bank
        self.device, self.dtype, self.placement = device, dtype, placement
        self._adapter = bank.suite.adapter
        self._models: Memo[PreTrainedModel] = Memo(bank.bank_bytes // 4)
        stored = bank.suite.pretrained.parameters
        self._copies = device.type != "cpu" or stored.flat.dtype != dtype
        copies = len(bank.candidates) * stored.layout.size * dtype.itemsize if self._copies else 0
        self._modules: Memo[nn.Module] = Memo(bank.bank_bytes // 4 + copies)
        self._shared: Memo[dict[str, Tensor]] = Memo(bank.bank_bytes // 4)
        self._digests: Memo[bytes] = Memo(DIGESTS)
        self._kinds: dict[tuple[str, int, bool], nn.Module] = {}
        self._built: dict[tuple[str, str, bool], nn.Module] = {}
        self._filled: dict[int, bytes] = {}

    def model(self, shared: Parts, task: str) -> PreTrainedModel:
        """A model with the shared parameters and the task's head, for stem and tail; it has one
        layer a segment, which is not to be run."""
        model = self._models.get((shared, task))
        if model is None:
            model = self._build_model(shared, task)
            self._models.put((shared, task), model, _size(model) + OVERHEAD)
        return model

    def digest(self, segment: str, layer: Layer) -> bytes:
        """A layer's fingerprint, the same for layers of equal weights."""
        digest = self._digests.get((segment, layer))
        if digest is None:
            digest = _digest(segment, layer.index, self.bank.layer(segment, layer))
            self._digests.put((segment, layer), digest, DIGEST_BYTES)
        return digest

    def layer(self, segment: str, layer: Layer, convolved: bool = False) -> nn.Module:
        """A layer's module, its linear layers `convolved` (see `products`) or plain; with `host`,
        to be used before the next one is asked for."""
        digest = self.digest(segment, layer)
        if self.placement == "host":
            return self._fill(digest, segment, layer, convolved)
        module = self._modules.get((digest, convolved))
        if module is None:
            module = _copy(self._kind(segment, layer.index, convolved))
            twin = self._modules.get((digest, not convolved))
            placed = self._placed_layer(segment, layer) if twin is None else twin.state_dict()
            module.load_state_dict(placed, assign=True)
            module = module.to(self.device, self.dtype)
            lent = (
                not self._copies
                and self.bank.bits is None
                and all(of.kind == "expert" for of in layer.sources)
            )
            size = OVERHEAD + (0 if lent else _size(module))
            self._modules.put((digest, convolved), module, size)
        return module

    def _placed_layer(self, segment: str, layer: Layer) -> dict[str, Tensor]:
        return self._placed(self.bank.layer(segment, layer))

    def _fill(self, digest: bytes, segment: str, layer: Layer, convolved: bool) -> nn.Module:
        """The one module of its kind, with the candidate's weights copied in."""
        module = self._kind(segment, layer.index, convolved).to(self.device, self.dtype)
        if self._filled.get(id(module)) != digest:
            module.load_state_dict(self.bank.layer(segment, layer))
            self._filled[id(module)] = digest
        return module

    def _build_model(self, shared: Parts, task: str) -> PreTrainedModel:
        layers = {name: [0] for name in self.bank.candidates.segments}
        model = self._skeleton(self._adapter.config(layers, self._head_config(task)))
        head = self.bank.suite.experts[self.bank.suite.tasks[task].expert].head
        tensors = {**self._shared_tensors(shared), **self._placed(head)}
        missing = fill(model, tensors, assign=True)
        assert all(self._adapter.place(name).part == "layer" for name in missing), missing
        return model.to(self.device, self.dtype)

    def _shared_tensors(self, shared: Parts) -> dict[str, Tensor]:
        """Placed once, however many tasks there are."""
        placed = self._shared.get(shared)
        if placed is None:
            placed = self._placed(self.bank.shared_tensors(shared))
            size = sum(tensor.nbytes for tensor in placed.values()) if self._copies else 0
            self._shared.put(shared, placed, size + 1024)
        return placed

    def _kind(self, segment: str, index: int, convolved: bool) -> nn.Module:
        """A module like those of this layer, of any weights: the second of its model, since the
        first may hold more (T5)."""
        if (segment, index, convolved) not in self._kinds:
            head = self._head_config(next(iter(self.bank.suite.tasks)))
            layers = {name: [0, 0] for name in self.bank.candidates.segments} | {
                segment: [index, index]
            }
            config = self._adapter.config(layers, head)
            built = segment, config.to_json_string(), convolved
            if built not in self._built:
                module = self._adapter.layers(self._skeleton(config))[segment][1]
                self._built[built] = convolve(module) if convolved else module
            self._kinds[segment, index, convolved] = self._built[built]
        return self._kinds[segment, index, convolved]

    def _head_config(self, task: str) -> PretrainedConfig:
        return self.bank.suite.experts[self.bank.suite.tasks[task].expert].config

    def _skeleton(self, config: PretrainedConfig) -> PreTrainedModel:
        return build(self._adapter, config).eval().requires_grad_(False)

    def _placed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.device, self.dtype) for name, tensor in tensors.items()}


def choose_placement(bank: LayerBank, device: torch.device, dtype: torch.dtype) -> str:
    """`device` where it can hold the bank's own tensors, or where copies of all candidates take at
    most half of its memory; `host` otherwise."""
    stored = bank.suite.pretrained.parameters
    if device.type == "cpu" and stored.flat.dtype == dtype:
        return "device"
    memory = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else physical_memory()
    copies = len(bank.candidates.sources) * stored.layout.size * dtype.itemsize
    return "device" if 2 * copies <= memory else "host"


def _copy(module: nn.Module) -> nn.Module:
    """A deep copy that shares the configuration."""
    configs = [part.config for part in module.modules() if hasattr(part, "config")]
    return copy.deepcopy(module, memo={id(config): config for config in configs})


def _size(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def _digest(segment: str, index: int, tensors: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.blake2b(f"{segment}/{index}".encode(), digest_size=16)
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()
