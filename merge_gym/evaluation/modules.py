"""Modules whose weights are the bank's own tensors: assembly by reference."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from merge_gym.bank import LayerBank
from merge_gym.models.weights import build, fill
from merge_gym.recipe import Layer, Source


class Modules:
    """The stems, layers and tails that recipes are run with, built once each.

    On the CPU in float32 their parameters are the bank's tensors; nothing is copied.

    Args:
        bank: where the weights come from.
        device, dtype: where and in what precision they are held.
    """

    def __init__(self, bank: LayerBank, device: torch.device, dtype: torch.dtype) -> None:
        self.bank = bank
        self.device, self.dtype = device, dtype
        self._adapter = bank.suite.adapter
        self._blueprints: dict[tuple[str, str], nn.Module] = {}
        self._models: dict[tuple[Source, str], PreTrainedModel] = {}
        self._layers: dict[tuple[str, Layer], tuple[int, nn.Module]] = {}
        self._by_content: dict[bytes, tuple[int, nn.Module]] = {}

    def model(self, shared: Source, task: str) -> PreTrainedModel:
        """A model with the shared parameters and the task's head, for stem and tail; it has one
        layer a segment, which is not to be run."""
        if (shared, task) not in self._models:
            self._models[shared, task] = self._build_model(shared, task)
        return self._models[shared, task]

    def layer(self, segment: str, layer: Layer) -> tuple[int, nn.Module]:
        """A candidate's number, the same for candidates of equal weights, and its module."""
        if (segment, layer) not in self._layers:
            tensors = self.bank.layer(layer.source, segment, layer.index)
            content = _digest(segment, layer.index, tensors)
            if content not in self._by_content:
                module = self._build_layer(segment, layer.index, tensors)
                self._by_content[content] = (len(self._by_content), module)
            self._layers[segment, layer] = self._by_content[content]
        return self._layers[segment, layer]

    def _build_model(self, shared: Source, task: str) -> PreTrainedModel:
        layers = {name: [0] for name in self.bank.segments}
        model = self._skeleton(self._adapter.config(layers, self._head_config(task)))
        head = self.bank.suite.experts[self.bank.suite.tasks[task].expert].head
        tensors = self._placed({**self.bank.shared_tensors(shared), **head})
        missing = fill(model, tensors, assign=True)
        assert all(self._adapter.place(name).part == "layer" for name in missing), missing
        return model.to(self.device, self.dtype)

    def _build_layer(self, segment: str, index: int, tensors: Mapping[str, Tensor]) -> nn.Module:
        blueprint = self._blueprint(segment, index)
        configs = {
            id(module.config): module.config
            for module in blueprint.modules()
            if hasattr(module, "config")
        }
        module = copy.deepcopy(blueprint, memo=configs)
        module.load_state_dict(self._placed(tensors), assign=True)
        return module.to(self.device, self.dtype)

    def _blueprint(self, segment: str, index: int) -> nn.Module:
        """A module to copy from: the second of its kind, since the first may hold more (T5)."""
        head = self._head_config(next(iter(self.bank.suite.tasks)))
        layers = {name: [0, 0] for name in self.bank.segments} | {segment: [index, index]}
        config = self._adapter.config(layers, head)
        key = (segment, config.to_json_string())
        if key not in self._blueprints:
            model = self._skeleton(config)
            self._blueprints[key] = self._adapter.layers(model)[segment][1]
        return self._blueprints[key]

    def _head_config(self, task: str) -> PretrainedConfig:
        return self.bank.suite.experts[self.bank.suite.tasks[task].expert].config

    def _skeleton(self, config: PretrainedConfig) -> PreTrainedModel:
        return build(self._adapter, config).eval().requires_grad_(False)

    def _placed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.device, self.dtype) for name, tensor in tensors.items()}


def _digest(segment: str, index: int, tensors: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.blake2b(f"{segment}/{index}".encode(), digest_size=16)
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()
