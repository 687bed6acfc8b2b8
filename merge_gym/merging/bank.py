"""All that can stand at a layer: the experts' layers and the operators' outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from merge_gym import operators as operator_registry
from merge_gym.merging.statistics import Statistics, check_data, collect
from merge_gym.messages import unknown_name
from merge_gym.models import Parameters
from merge_gym.models.parameters import SHARED
from merge_gym.recipe import Source
from merge_gym.spaces.candidates import Candidates
from merge_gym.suites import Suite

SourceLike = str | Mapping[str, Any] | Source


class LayerBank(Candidates):
    """The candidates of a suite, each merged when it is first asked for and then kept.

    Args:
        suite: where the models come from.
        operators: names or `{"name": …, hyper-parameters}`, in action order after the experts;
            several variants of one operator may stand side by side. None: the suite's own.
        shared: source of the parameters outside the layers: an expert's name or an operator.
            None: the suite's own.

    Attributes:
        candidates: names of the N+M sources, in action order.
        sources: the same, by value.
        segments: {segment name: number of layers}.

    Raises:
        ValueError: an unknown operator, a hyper-parameter out of range, the same candidate twice,
            an operator that looks at data where the suite has none that it can use.
    """

    def __init__(
        self,
        suite: Suite,
        operators: Sequence[str | Mapping[str, Any]] | None = None,
        shared: SourceLike | None = None,
    ) -> None:
        self.suite = suite
        given = suite.operators if operators is None else operators
        if isinstance(given, str | Mapping):
            raise ValueError(f"operators is a list of operators, got {given!r}: write [{given!r}]")
        sources = (
            *(Source.expert(name) for name in suite.experts),
            *(self._operator(spec) for spec in given),
        )
        names = (*suite.experts, *(spec_name(spec) for spec in given))
        super().__init__(suite.name, suite.digest, suite.adapter.segments, sources, names)
        self._check_distinct()
        self.shared = self.source(suite.shared if shared is None else shared)
        self._models: dict[Source, Parameters] = {}
        self._statistics: dict[operator_registry.Statistic, list[Statistics]] = {}

    def source(self, spec: SourceLike) -> Source:
        """A candidate or expert by name, or an operator by name, `{"name": …}` or value."""
        if isinstance(spec, str) and spec in self.candidates:
            return self.sources[self.candidates.index(spec)]
        if isinstance(spec, Source):
            return self._known(spec)
        if isinstance(spec, str) and spec not in operator_registry.available():
            known = {*self.candidates, *operator_registry.available()}
            raise ValueError(unknown_name("source", spec, known))
        return self._operator(spec)

    def layer(self, source: Source, segment: str, index: int) -> dict[str, Tensor]:
        """The tensors of one candidate, by their names within the layer; not to be changed."""
        return self.parameters(source).group((segment, index))

    def shared_tensors(self, source: Source) -> dict[str, Tensor]:
        """The parameters outside layers and heads, by full name; not to be changed."""
        return self.parameters(source).group(SHARED)

    def parameters(self, source: Source) -> Parameters:
        """Every layer and the shared parameters of `source`."""
        if source not in self._models:
            self._models[source] = self._build(self._known(source))
        return self._models[source]

    def release(self, source: Source) -> None:
        """Let go of what was merged for `source`."""
        self._models.pop(source, None)

    def _operator(self, spec: str | Mapping[str, Any]) -> Source:
        settings = {"name": spec} if isinstance(spec, str) else spec
        if not isinstance(settings, Mapping) or "name" not in settings:
            raise ValueError(
                f"an operator is a name or {{'name': …, hyper-parameters}}, got {spec!r}"
            )
        name = settings["name"]
        given = {key: value for key, value in settings.items() if key != "name"}
        checked = operator_registry.check(name, given, len(self.suite.experts))
        check_data(name, self.suite)
        return Source.operator(name, **checked)

    def _known(self, source: Source) -> Source:
        if source.kind == "operator":
            return self._operator({"name": source.name, **dict(source.parameters)})
        if source.name not in self.suite.experts:
            raise ValueError(unknown_name("expert", source.name, self.suite.experts))
        return source

    def _check_distinct(self) -> None:
        for index, source in enumerate(self.sources):
            if source in self.sources[:index] or self.candidates[index] in self.candidates[:index]:
                raise ValueError(
                    f"candidate {self.candidates[index]!r} is in the bank twice; give each "
                    f"operator other hyper-parameters, and no expert an operator's name"
                )

    def _build(self, source: Source) -> Parameters:
        if source.kind == "expert":
            return self.suite.experts[source.name].parameters
        settings = dict(source.parameters)
        scope = settings.pop("scope")
        if "seed" in settings:
            settings["generator"] = torch.Generator().manual_seed(settings.pop("seed"))
        pretrained = self.suite.pretrained.parameters
        experts = [expert.parameters.flat for expert in self.suite.experts.values()]
        merged = self.suite.allocate(pretrained.layout.size, pretrained.flat.dtype)
        for span, shape in pretrained.stretches(scope):
            merged[span] = operator_registry.merge(
                source.name,
                pretrained.flat[span].view(shape),
                [expert[span].view(shape) for expert in experts],
                **settings,
                **self._data(source.name, span),
            ).view(-1)
        return Parameters(pretrained.layout, merged)

    def _data(self, operator: str, span: slice) -> dict[str, list[Tensor]]:
        """What an operator is told about the experts' data for one tensor, if it needs that."""
        kind = operator_registry.get(operator).needs
        if kind is None:
            return {}
        if kind not in self._statistics:
            self._statistics[kind] = collect(kind, self.suite)
        statistics = self._statistics[kind]
        if span.start not in statistics[0]:
            return {}
        return {"statistics": [of[span.start] for of in statistics]}


def spec_name(spec: str | Mapping[str, Any]) -> str:
    """`ties`, or `ties(density=0.3)` where hyper-parameters are given."""
    if isinstance(spec, str):
        return spec
    name = spec.get("name", "")
    return str(Source.operator(name, **{key: spec[key] for key in spec if key != "name"}))
