"""All that can stand at a layer, as tensors: the experts' layers and the operators' outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from merge_gym import operators as operator_registry
from merge_gym.library import PRECISIONS, Module, Place
from merge_gym.memory import Memo
from merge_gym.merging.calibration import check_calibration
from merge_gym.merging.compression import Stored
from merge_gym.merging.pieces import Pieces
from merge_gym.merging.scales import check_scales, fold, without_streams
from merge_gym.merging.statistics import check_data
from merge_gym.messages import unknown_name
from merge_gym.models import Parameters
from merge_gym.models.parameters import SHARED, Group
from merge_gym.recipe import (
    LAYER_COMPONENTS,
    SHARED_COMPONENTS,
    WHOLE,
    Calibration,
    Layer,
    Parts,
    Recipe,
    Source,
    whole,
)
from merge_gym.spaces.candidates import Candidates, Family
from merge_gym.suites import Suite

SourceLike = str | Mapping[str, Any] | Source

BANK_BYTES = 2**30
"""What is kept of merged tensors beside the bank's own candidates, if no budget is given."""

RESOLVED = 4 * 2**20
"""Bytes of recipes that are remembered as checked."""

FEATURES = 64 * 2**20
"""Bytes of experts' features that calibrations are made to."""

RECIPE_BYTES = 4096
"""What one of them takes, about."""


class LayerBank:
    """The sources of a suite as tensors, each stretch merged when it is first asked for.

    Args:
        suite: where the models come from.
        operators: names or `{"name": …, settings}`, in action order after the experts; several
            variants of one operator may stand side by side. None: the suite's own.
        shared: source of the parameters outside the layers: an expert's name or an operator.
            None: the suite's own.
        bank_bytes: budget of merged tensors, those that models are run with included; the least
            recently used go. None: room for every candidate, and 1 GiB.
        heads: how heads are calibrated in every recipe made here.
        bits: of a stored weight (8, 4 or 2): every tensor is what is restored from so many, see
            `merge_gym.merging.compression`. None: as they are.

    Attributes:
        candidates: the N+M sources by name and value, in action order.

    Raises:
        ValueError: an unknown operator, a setting out of range, the same candidate twice, an
            operator that looks at data where the suite has none that it can use.
    """

    def __init__(
        self,
        suite: Suite,
        operators: Sequence[str | Mapping[str, Any]] | None = None,
        shared: SourceLike | None = None,
        bank_bytes: int | None = None,
        heads: Calibration | None = None,
        bits: int | None = None,
    ) -> None:
        if bits not in PRECISIONS:
            raise ValueError(f"bits of a stored weight are 8, 4, 2 or none, got {bits!r}")
        self.suite, self.bits = suite, bits
        given = suite.operators if operators is None else operators
        if isinstance(given, str | Mapping):
            raise ValueError(f"operators is a list of operators, got {given!r}: write [{given!r}]")
        merged = [self._operator(spec) for spec in given]
        sources = [*(Source.expert(name) for name in suite.experts), *merged]
        names = [*suite.experts, *(spec_name(spec) for spec in given)]
        _check_distinct(sources, names)
        adapter = suite.adapter
        family = Family(bool(adapter.components), bool(adapter.final), bool(adapter.writes))
        self.candidates = Candidates(
            suite.name, suite.digest, adapter.segments, sources, names, (), family, heads
        )
        chosen = self.source(suite.shared if shared is None else shared)
        self.candidates.shared = whole(chosen)
        model = suite.pretrained.parameters.flat.nbytes
        room = (
            BANK_BYTES + 4 * len(merged) * model
        )  # half for pieces, half for modules made of them
        self.bank_bytes = room if bank_bytes is None else bank_bytes
        self._pieces = Pieces(suite, self.bank_bytes // 2, bits)
        self.candidates.shapes = {
            (*group, component): tuple(self._pieces.shapes(group, component).values())
            for group in sorted(suite.pretrained.parameters.layout.groups, key=SHARED.__ne__)
            for component in self._pieces.components(group)
        }
        self.candidates.likeness = self._likeness
        self._resolved: Memo[Recipe] = Memo(RESOLVED)
        self.remembered_features: Memo[Tensor] = Memo(FEATURES)

    def source(self, spec: SourceLike) -> Source:
        """A candidate or expert by name, or an operator by name, `{"name": …}` or value, with all
        its settings. An operator's bare name means the candidate that is made by it, if there is
        one, otherwise the operator with its defaults.

        Raises ValueError for one that is unknown, and for a bare name that several candidates have.
        """
        if isinstance(spec, Source):
            return self._known(spec)
        if isinstance(spec, str):
            if spec in self.candidates.names:
                return self.candidates.source(spec)
            if spec not in operator_registry.available():
                known = {*self.candidates.names, *operator_registry.available()}
                raise ValueError(unknown_name("source", spec, known))
            named = self._named(spec)
            if len(named) > 1:
                raise ValueError(
                    f"{spec!r} is ambiguous, the bank holds {', '.join(named)}: give that name, or "
                    f"{{'name': {spec!r}, …}} with the settings that are meant"
                )
            if named:
                return self.candidates.source(named[0])
        return self._operator(spec)

    def uniform(self, spec: SourceLike) -> Recipe:
        """The whole model from one source."""
        return self.candidates.uniform(self.source(spec))

    def layer(self, segment: str, layer: Layer) -> dict[str, Tensor]:
        """The tensors of a layer, by their names within it, scales folded in; not to be changed."""
        return fold(layer, self._tensors((segment, layer.index), layer.parts), self.suite.adapter)

    def shared_tensors(self, shared: Parts) -> dict[str, Tensor]:
        """The parameters outside layers and heads, by full name; not to be changed."""
        return self._tensors(SHARED, shared)

    def stored(self, module: Module) -> dict[str, Stored]:
        """How a module's tensors are stored, by their names in it."""
        segment, index, component = module.place
        return self._pieces.stored(module.source, (segment, index), component)

    def tensor_shapes(self, module: Module) -> dict[str, tuple[int, ...]]:
        """The shapes of a module's tensors, by their names in it."""
        segment, index, component = module.place
        return self._pieces.shapes((segment, index), component)

    def _likeness(self, place: Place) -> NDArray[np.float64]:
        """The cosines between the experts' task vectors at a place, shape (N, N)."""
        segment, index, component = place
        base = self._flat(self.suite.pretrained.parameters, (segment, index), component)
        experts = [of.parameters for of in self.suite.experts.values()]
        vectors = torch.stack(
            [self._flat(of, (segment, index), component) - base for of in experts]
        )
        unit = functional.normalize(vectors.double(), dim=1)
        return (unit @ unit.T).numpy()

    def _flat(self, parameters: Parameters, group: Group, component: str) -> Tensor:
        of, names = parameters.group(group), self._pieces.shapes(group, component)
        return torch.cat([of[name].flatten() for name in names])

    def parameters(self, source: Source) -> Parameters:
        """Every layer and the shared parameters of `source`, in a flat vector of their own; an
        expert's are its checkpoint's."""
        known = self._known(source)
        if known.kind == "expert":
            return self.suite.experts[known.name].parameters
        layout = self.suite.pretrained.parameters.layout
        tensors = {
            (group, name): tensor
            for group in layout.groups
            for name, tensor in self._tensors(group, whole(known)).items()
        }
        return Parameters.gather(layout, tensors, self.suite.allocate)

    def resolve(self, recipe: Recipe) -> Recipe:
        """The recipe as it is scored and exported: every source with all its settings, factors of
        whole outputs turned into factors of branches.

        Raises ValueError for a recipe of another suite, a source that is unknown or out of range,
        and components or scales that the family lacks.
        """
        resolved = self._resolved.get(recipe)
        if resolved is None:
            self.candidates.check(recipe)
            adapter = self.suite.adapter
            family = self.suite.pretrained.config.model_type
            check_scales(recipe, adapter, family)
            if recipe.heads is not None:
                check_calibration(recipe.heads, self.suite)
            segments = tuple(
                (name, tuple(replace(layer, parts=self._checked(layer.parts)) for layer in layers))
                for name, layers in recipe.segments
            )
            shared = self._checked(recipe.shared, layers=False)
            resolved = without_streams(replace(recipe, shared=shared, segments=segments), adapter)
            self._resolved.put(recipe, resolved, RECIPE_BYTES)
        return resolved

    def _tensors(self, group: Group, parts: Parts) -> dict[str, Tensor]:
        of = dict(parts)
        tensors: dict[str, Tensor] = {}
        for component in self._pieces.components(group):
            source = of[component] if component in of else of[WHOLE]
            tensors |= self._pieces.piece(source, group, component)
        return tensors

    def _checked(self, parts: Parts, layers: bool = True) -> Parts:
        """The parts with complete sources; equal parts become one."""
        adapter, given = self.suite.adapter, tuple(component for component, _ in parts)
        names = LAYER_COMPONENTS if layers else SHARED_COMPONENTS
        known = adapter.components if layers else adapter.final
        if given != (WHOLE,) and not (known and given == names):
            family = self.suite.pretrained.config.model_type
            what = f"{'layers' if layers else 'shared parameters'} of {family}"
            expected = f" or one for each of {', '.join(names)}, in order" if known else ""
            raise ValueError(
                f"{what} have one source{expected}; got sources for {', '.join(given) or 'nothing'}"
            )
        checked = tuple((component, self._known(source)) for component, source in parts)
        first = checked[0][1]
        return whole(first) if all(source == first for _, source in checked) else checked

    def _operator(self, spec: str | Mapping[str, Any], experts: tuple[str, ...] = ()) -> Source:
        settings = {"name": spec} if isinstance(spec, str) else spec
        if not isinstance(settings, Mapping) or "name" not in settings:
            raise ValueError(f"an operator is a name or {{'name': …, settings}}, got {spec!r}")
        name = settings["name"]
        given = {key: settings[key] for key in settings if key not in ("name", "experts")}
        merged = self._merged_experts(settings.get("experts", experts))
        checked = operator_registry.check(name, given, len(merged or self.suite.experts))
        check_data(name, self.suite)
        return Source.operator(name, merged, **checked)

    def _merged_experts(self, given: Iterable[str]) -> tuple[str, ...]:
        """Which experts an operator merges, in the suite's order; none stands for all."""
        chosen, known = tuple(given), tuple(self.suite.experts)
        if unknown := [name for name in chosen if name not in known]:
            raise ValueError(unknown_name("expert", unknown[0], known))
        if chosen != tuple(name for name in known if name in chosen):
            raise ValueError(
                f"an operator's experts stand once each in the suite's order, {', '.join(known)}; "
                f"got {', '.join(chosen)}"
            )
        return () if chosen == known else chosen

    def _known(self, source: Source) -> Source:
        if source.base is not None:
            self._known(Source.expert(source.name))
            return replace(source, base=self._known(source.base))
        if source.kind == "operator":
            spec = {"name": source.name, **dict(source.parameters)}
            return self._operator(spec, source.experts)
        if source.name not in self.suite.experts:
            raise ValueError(unknown_name("expert", source.name, self.suite.experts))
        return source

    def _named(self, operator: str) -> list[str]:
        """The candidates that are made by an operator."""
        candidates = zip(self.candidates.names, self.candidates.sources, strict=True)
        return [
            name
            for name, source in candidates
            if source.kind == "operator" and source.name == operator
        ]


def spec_name(spec: str | Mapping[str, Any]) -> str:
    """`ties`, or `ties(density=0.3)` where settings are given."""
    if isinstance(spec, str):
        return spec
    name = spec.get("name", "")
    return str(Source.operator(name, **{key: spec[key] for key in spec if key != "name"}))


def _check_distinct(sources: Sequence[Source], names: Sequence[str]) -> None:
    for index, source in enumerate(sources):
        if source in sources[:index] or names[index] in names[:index]:
            raise ValueError(
                f"candidate {names[index]!r} is in the bank twice; give each operator other "
                f"settings, and no expert an operator's name"
            )
