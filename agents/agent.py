"""What every agent shares: the look-up by name, the checks, how a search begins and ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from merge_gym.messages import taken_name, unknown_name
from merge_gym.settings import Setting, check_settings, settings_of_dataclass
from merge_gym.spaces.space import Decisions
from merge_gym.studies.study import BudgetSpent, Study, Trial


@dataclass
class Agent(ABC):
    """One way to search; the fields of a subclass are its settings.

    An agent is a function of its settings, the study's seed and what the study tells it, so that a
    killed search goes on by being run again.
    """

    def search(self, study: Study) -> None:
        """Search until the budget is spent or the agent is done; what was found is `study.best()`.

        Raises ValueError where the study's folder was begun otherwise, or its space is not one that
        this agent can search.
        """
        self.check(study)
        study.begin(self.describe())
        with suppress(BudgetSpent):
            self.run(study)

    @abstractmethod
    def run(self, study: Study) -> None:
        """Search; BudgetSpent, which the study raises, is passed on."""

    def check(self, study: Study) -> None:  # noqa: B027  most agents search anything
        """ValueError where this agent cannot search the study's space or with its budget."""

    def describe(self) -> dict[str, Any]:
        """All that the search depends on beside the study, as JSON values."""
        settings = {of.name: getattr(self, of.name) for of in fields(self) if of.init}
        return {"name": name_of(type(self)), **settings}


class AskTell(Agent):
    """An agent that proposes decisions and is told what they gave, a batch at a time."""

    @abstractmethod
    def ask(self, study: Study) -> Sequence[Decisions]:
        """Decisions to score next; none ends the search."""

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """What they gave, in order."""

    def run(self, study: Study) -> None:
        while proposed := self.ask(study):
            self.tell(study.evaluate_all(proposed))


_AGENTS: dict[str, type[Agent]] = {}

AgentClass = TypeVar("AgentClass", bound=type[Agent])


def agent(name: str) -> Callable[[AgentClass], AgentClass]:
    """Register an Agent dataclass under `name`."""

    def register(cls: AgentClass) -> AgentClass:
        if name in _AGENTS:
            raise ValueError(taken_name("agent", name, _AGENTS[name]))
        _AGENTS[name] = cls
        return cls

    return register


def available() -> tuple[str, ...]:
    """The names of all agents, sorted."""
    return tuple(sorted(_AGENTS))


def name_of(cls: type[Agent]) -> str:
    """Under which name a class was registered."""
    return next(name for name, known in _AGENTS.items() if known is cls)


def make(name: str, **settings: Any) -> Agent:
    """The agent called `name`, ready to search.

    Args:
        name: one of `available()`.
        **settings: the fields of the agent's class; those not given have their defaults.

    Raises:
        ValueError: an unknown agent or setting, or a value out of range.
    """
    known = settings_of(name)
    cls = _AGENTS[name]
    plain = {of.name for of in fields(cls) if of.metadata.get("checked_elsewhere")}
    passed = {key: value for key, value in settings.items() if key in plain}
    given = {key: value for key, value in settings.items() if key not in plain}
    return cls(**passed, **check_settings(f"setting of agent {name!r}", given, known))


def settings_of(name: str) -> dict[str, Setting]:
    """The settings of an agent, as its annotations describe them; ValueError if it is unknown."""
    if name not in _AGENTS:
        raise ValueError(unknown_name("agent", name, available()))
    return settings_of_dataclass(_AGENTS[name])
