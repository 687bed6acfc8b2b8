"""Merged tensors by the piece, within a byte budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from merge_gym import operators
from merge_gym.memory import Memo
from merge_gym.merging.compression import (
    Stored,
    quantised,
    residual,
    restored,
    restored_residual,
)
from merge_gym.merging.statistics import Statistics, collect
from merge_gym.models.parameters import SHARED, Group, Slot
from merge_gym.operators import Operator, Statistic
from merge_gym.recipe import Source
from merge_gym.suites import Suite

Piece = Mapping[str, Tensor]
"""The tensors of one component of a layer, or of what is shared, by name."""

REMEMBERED = 16 * 2**20
"""Bytes of generator states, and of operators' facts about whole models."""


class Pieces:
    """The components of every layer of every source, merged when they are first asked for.

    Only the stretch of the flat vector of parameters that an operator's scope ties together is
    merged: a tensor, or a layer; over the whole model the operator's facts (thresholds, norms) are
    taken once and kept, and then its stretches are merged one by one. An operator that draws finds
    its generator where it stands when the whole model is merged in order. So a piece has the same
    bits as that part of a merge of the whole.

    Args:
        suite: whose models are merged.
        budget: bytes of merged tensors that are kept; the least recently used go.
        bits: of a stored weight; every piece is what is restored from it. None: as they are.
    """

    def __init__(self, suite: Suite, budget: int, bits: int | None = None) -> None:
        self.suite, self.bits = suite, bits
        self._kept: Memo[Piece] = Memo(budget)
        self._facts: Memo[Any] = Memo(REMEMBERED)
        self._states: Memo[dict[int, Tensor]] = Memo(REMEMBERED)
        self._statistics: dict[Statistic, list[Statistics]] = {}
        self._layout = suite.pretrained.parameters.layout
        self._slots = _by_component(suite)

    def components(self, group: Group) -> tuple[str, ...]:
        """The components that a layer, or what is shared, is made of."""
        return tuple(self._slots[group])

    def piece(self, source: Source, group: Group, component: str) -> Piece:
        """The tensors of one component; not to be changed."""
        if self.bits is None and source.base is None:
            return self._plain(source, group, component)
        key = (source, group, component, "restored")
        kept = self._kept.get(key)
        if kept is None:
            kept = self._restored(source, group, component)
            self._kept.put(key, kept, sum(tensor.nbytes for tensor in kept.values()))
        return kept

    def stored(self, source: Source, group: Group, component: str) -> dict[str, Stored]:
        """How the tensors of one component are stored: of a residual what is added to its base."""
        if source.base is None:
            plain = self._plain(source, group, component)
            return {name: quantised(tensor, self.bits) for name, tensor in plain.items()}
        rank, base = dict(source.parameters)["rank"], self.piece(source.base, group, component)
        expert = self._plain(Source.expert(source.name), group, component)
        return {name: residual(expert[name] - base[name], rank) for name in base}

    def shapes(self, group: Group, component: str) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors of one component."""
        return {slot.name: slot.shape for slot in self._slots[group].get(component, ())}

    def _restored(self, source: Source, group: Group, component: str) -> Piece:
        stored = self.stored(source, group, component)
        shapes = self.shapes(group, component)
        if source.base is None:
            return {name: restored(of, shapes[name], self.bits) for name, of in stored.items()}
        base = self.piece(source.base, group, component)
        return {
            name: base[name] + restored_residual(of, shapes[name]) for name, of in stored.items()
        }

    def _plain(self, source: Source, group: Group, component: str) -> Piece:
        slots = self._slots[group].get(component, ())
        if source.kind == "expert":
            flat = self.suite.experts[source.name].parameters.flat
            return {slot.name: flat[slot.start : slot.stop].view(slot.shape) for slot in slots}
        kept = self._kept.get((source, group, component))
        return self._merge(source, group, component) if kept is None else kept

    def _merge(self, source: Source, group: Group, component: str) -> Piece:
        scope = dict(source.parameters)["scope"]
        found = operators.get(source.name)
        if scope == "tensor" or (scope == "model" and found.whole is not None):
            parts = {
                slot: self._merged(source, scope, slot.start, slot.stop, slot.shape)
                for slot in self._slots[group].get(component, ())
            }
            return self._keep(source, group, component, parts)
        groups = [group] if scope == "layer" else list(self._layout.groups)
        span = self._layout.span(group) if scope == "layer" else slice(0, self._layout.size)
        values = self._merged(source, scope, span.start, span.stop, (span.stop - span.start,))
        wanted: Piece = {}
        for each, name, slots in self._members(groups):
            parts = {
                slot: values[slot.start - span.start : slot.stop - span.start] for slot in slots
            }
            piece = self._keep(source, each, name, parts)
            wanted = piece if (each, name) == (group, component) else wanted
        return wanted

    def _members(self, groups: list[Group]) -> Iterator[tuple[Group, str, tuple[Slot, ...]]]:
        for group in groups:
            for name, slots in self._slots[group].items():
                yield group, name, slots

    def _keep(
        self, source: Source, group: Group, component: str, values: Mapping[Slot, Tensor]
    ) -> Piece:
        """Lay values into memory, or a mapped file, of their own."""
        dtype = self.suite.pretrained.parameters.flat.dtype
        flat = self.suite.allocate(sum(value.numel() for value in values.values()), dtype)
        piece, start = {}, 0
        for slot, value in values.items():
            piece[slot.name] = flat[start : start + value.numel()].view(slot.shape)
            piece[slot.name].copy_(value.view(slot.shape))
            start += value.numel()
        self._kept.put((source, group, component), piece, flat.nbytes)
        return piece

    def _merged(
        self, source: Source, scope: str, start: int, stop: int, shape: tuple[int, ...]
    ) -> Tensor:
        """What the operator makes of one stretch of the flat vector."""
        settings = dict(source.parameters)
        del settings["scope"]
        found = operators.get(source.name)
        names = source.experts or tuple(self.suite.experts)
        flats = [self.suite.experts[name].parameters.flat for name in names]
        pretrained = self.suite.pretrained.parameters.flat
        if found.draws:
            settings["generator"] = self._generator(settings.pop("seed"), scope, len(names), start)
        if scope == "model" and found.whole is not None:
            settings["facts"] = self._whole(source, found, pretrained, flats)
        return operators.merge(
            source.name,
            pretrained[start:stop].view(shape),
            [flat[start:stop].view(shape) for flat in flats],
            **settings,
            **self._data(found, names, start),
        )

    def _whole(
        self, source: Source, found: Operator, pretrained: Tensor, flats: list[Tensor]
    ) -> Any:
        """The operator's facts about the whole model."""
        facts = self._facts.get(source)
        if facts is None:
            assert found.whole is not None
            settings = {key: value for key, value in source.parameters if key != "scope"}
            with torch.no_grad():
                facts = found.whole(pretrained, flats, **settings)
            self._facts.put(source, facts, 1024)
        return facts

    def _generator(self, seed: int, scope: str, experts: int, start: int) -> torch.Generator:
        """A generator that stands where it does when the whole model is merged in order."""
        states = self._states.get((seed, scope, experts))
        if states is None:
            states, generator = {}, torch.Generator().manual_seed(seed)
            for span, shape in self.suite.pretrained.parameters.stretches(scope):
                states[span.start] = generator.get_state()
                for _ in range(experts):
                    torch.rand(shape, generator=generator)
            size = sum(state.nbytes for state in states.values())
            self._states.put((seed, scope, experts), states, size)
        generator = torch.Generator()
        generator.set_state(states[start])
        return generator

    def _data(self, found: Operator, names: tuple[str, ...], start: int) -> dict[str, list[Tensor]]:
        """What an operator is told about the experts' data for one tensor, if it needs that."""
        if found.needs is None:
            return {}
        if found.needs not in self._statistics:
            self._statistics[found.needs] = collect(found.needs, self.suite)
        of = dict(zip(self.suite.experts, self._statistics[found.needs], strict=True))
        known = [of[name][start] for name in names if start in of[name]]
        return {"statistics": known} if known else {}


def _by_component(suite: Suite) -> dict[Group, dict[str, tuple[Slot, ...]]]:
    """The slots of each component of each layer, and of what is shared."""
    adapter, grouped = suite.adapter, {}
    for group, slots in suite.pretrained.parameters.layout.groups.items():
        of = adapter.shared_component if group == SHARED else adapter.component
        members: dict[str, list[Slot]] = {}
        for slot in slots:
            members.setdefault(of(slot.name), []).append(slot)
        grouped[group] = {name: tuple(some) for name, some in members.items()}
    return grouped
