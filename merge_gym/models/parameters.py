"""A model's mergeable tensors as one flat vector, so that an operator can see any scope of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor

from merge_gym.models.adapter import Place
from merge_gym.models.storage import Allocate, in_memory

Group = tuple[str, int]
"""A layer (segment, index), or SHARED."""

SHARED: Group = ("", -1)


@dataclass(frozen=True)
class Slot:
    """One tensor's place in the flat vector."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Which stretch of the flat vector holds which tensor; layers first, each contiguous.

    Attributes:
        groups: for each layer and for the shared parameters, its tensors in order.
    """

    groups: Mapping[Group, tuple[Slot, ...]]

    @classmethod
    def of(cls, places: Mapping[Place, tuple[int, ...]]) -> Layout:
        """Lay out tensors, given the place and shape of each; heads are left out."""
        members: dict[Group, list[Place]] = {}
        for place in places:
            if place.part != "head":
                group = SHARED if place.part == "shared" else (place.segment, place.index)
                members.setdefault(group, []).append(place)
        start = 0
        groups = {}
        for group in sorted(members, key=lambda group: group == SHARED):
            slots = []
            for place in members[group]:
                slots.append(Slot(place.name, tuple(places[place]), start))
                start = slots[-1].stop
            groups[group] = tuple(slots)
        return cls(groups)

    @property
    def size(self) -> int:
        """Number of mergeable parameters."""
        return max((slots[-1].stop for slots in self.groups.values()), default=0)

    def span(self, group: Group) -> slice:
        """The stretch of the flat vector that holds a whole group."""
        slots = self.groups[group]
        return slice(slots[0].start, slots[-1].stop)


@dataclass(frozen=True)
class Parameters:
    """Tensors of one model: views into `flat`, a vector of `layout.size` values."""

    layout: Layout
    flat: Tensor

    @classmethod
    def gather(
        cls,
        layout: Layout,
        tensors: Mapping[tuple[Group, str], Tensor],
        allocate: Allocate = in_memory,
    ) -> Parameters:
        """Copy tensors of one dtype, given by group and name, into a new flat vector."""
        flat = allocate(layout.size, next(iter(tensors.values())).dtype)
        for group, slots in layout.groups.items():
            for slot in slots:
                flat[slot.start : slot.stop] = tensors[group, slot.name].reshape(-1)
        return cls(layout, flat)

    def group(self, group: Group) -> dict[str, Tensor]:
        """The tensors of a layer or of the shared parameters, by name; views, not copies."""
        return {
            slot.name: self.flat[slot.start : slot.stop].view(slot.shape)
            for slot in self.layout.groups[group]
        }

    def stretches(self, scope: str) -> Iterable[tuple[slice, tuple[int, ...]]]:
        """The stretches of `flat`, each with its shape, over which an operator of `scope`
        (`tensor`, `layer` or `model`) ranges."""
        if scope == "model":
            yield slice(0, self.layout.size), (self.layout.size,)
            return
        for group, slots in self.layout.groups.items():
            if scope == "layer":
                span = self.layout.span(group)
                yield span, (span.stop - span.start,)
            else:
                yield from ((slice(slot.start, slot.stop), slot.shape) for slot in slots)
