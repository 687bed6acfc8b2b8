"""What every agent shares: the look-up by name, the checks, a run that survives being killed."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import gymnasium as gym

from agents.episodes import EpisodeRecord, RecordEpisodes
from merge_gym.evaluation.journal import Journal
from merge_gym.messages import unknown_name
from merge_gym.operators import Range
from merge_gym.operators.registry import Hyperparameter
from merge_gym.recipe import Recipe
from merge_gym.studies.lines import read_json, write_json
from merge_gym.studies.progress import progress_bar

EPISODES, SCORES = "episodes.jsonl", "scores.jsonl"
SAID_OTHERWISE = ("suite", "operators", "table", "render_mode")
KINDS: dict[type, Any] = {float: "number", int: "integer", bool: "flag"}


@dataclass
class Agent(ABC):
    """One search for recipes in one environment; the fields of a subclass are hyper-parameters.

    Attributes:
        env: a ModelMerge environment, with its reward wrappers.
        seed: of everything random in the search, the environment included.
        directory: where the run keeps its files.
    """

    env: gym.Env
    seed: int
    directory: Path

    def search(
        self,
        episodes: int,
        resume: bool = False,
        on_episode: Callable[[EpisodeRecord], None] | None = None,
    ) -> list[EpisodeRecord]:
        """Run until `episodes` episodes have ended and return their records.

        A run that was killed at any moment goes on with `resume=True` and ends as if it had not
        been: agents are deterministic, and no score that is in the journal is computed again. The
        directory receives `agent.json` (what was asked for), `episodes.jsonl` (agents.episodes)
        and `scores.jsonl` (merge_gym.evaluation.journal). A progress bar is shown on a terminal.

        Args:
            episodes: how many, those of a resumed run included.
            resume: go on with the run in the directory, or begin it if there is none.
            on_episode: called with each new record.

        Raises:
            ValueError: there is a run in the directory and `resume` is false, or that run was
                started with another agent, seed, hyper-parameter or environment.
        """
        if episodes < 1:
            raise ValueError(f"a search runs for at least 1 episode, got {episodes!r}")
        self._open(resume)
        plain = self.env.unwrapped.evaluator
        try:
            with (
                Journal(plain, self.directory / SCORES) as journal,
                progress_bar(episodes) as bar,
                RecordEpisodes(self.env, self.directory / EPISODES, self.kept()) as record,
            ):
                self.env.unwrapped.evaluator = journal
                for past in record.records:
                    bar(past)
                record.listeners += [bar, on_episode] if on_episode else [bar]
                self.play(record, episodes)
                return record.records
        finally:
            self.env.unwrapped.evaluator = plain

    @abstractmethod
    def play(self, env: RecordEpisodes, episodes: int) -> None:
        """Play in `env`, from a seeded reset, until `len(env.records) == episodes`.

        It must be a function of seed, hyper-parameters and environment only: a resumed run plays
        everything again, from the journal, unless `kept` says that the agent can do better.
        """

    def kept(self) -> int:
        """How many episodes of the run in the directory need not be played again."""
        return 0

    def greedy_recipe(self) -> Recipe | None:
        """What the policy builds when it always takes its likeliest action, after `search`;
        None for an agent without a policy and for an invalid episode."""
        return None

    def _open(self, resume: bool) -> None:
        """Make the directory and hold what is asked for against what it holds."""
        file = self.directory / "agent.json"
        asked = self._description()
        if file.exists():
            if not resume:
                raise ValueError(
                    f"{self.directory} holds a run already: continue it with resume=True, or give "
                    f"another directory"
                )
            started = read_json(file)
            differ = [key for key in asked | started if started.get(key) != asked.get(key)]
            if differ:
                changes = ", ".join(
                    f"{key} was {started.get(key)!r}, is {asked.get(key)!r}" for key in differ
                )
                raise ValueError(
                    f"the run in {self.directory} was started otherwise ({changes}): resume it "
                    f"as it was, or give another directory"
                )
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(file, asked)

    def _description(self) -> dict[str, Any]:
        """Everything but the number of episodes that the outcome depends on, as JSON values."""
        env = self.env.unwrapped
        description = {
            "agent": type(self).__name__,
            "seed": self.seed,
            **{name: getattr(self, name) for name in hyperparameters(type(self))},
            "suite": env.bank.digest,
            "sources": [source.to_dict() for source in (*env.bank.sources, env.bank.shared)],
            "stacking": env.start.stacking,
            "subsets": env.subsets,
        }
        for key, value in (env.spec.kwargs if env.spec else {}).items():
            if key not in SAID_OTHERWISE:
                description[key] = value
        return json.loads(json.dumps(description, default=str))


_AGENTS: dict[str, type[Agent]] = {}

AgentClass = TypeVar("AgentClass", bound=type[Agent])


def agent(name: str) -> Callable[[AgentClass], AgentClass]:
    """Register an Agent dataclass under `name`."""

    def register(cls: AgentClass) -> AgentClass:
        _AGENTS[name] = cls
        return cls

    return register


def available() -> tuple[str, ...]:
    """The names of all agents, sorted."""
    return tuple(sorted(_AGENTS))


def make(
    name: str, env: gym.Env, seed: int, directory: str | Path, **hyperparameters: Any
) -> Agent:
    """The agent called `name`, ready to search.

    Args:
        name: one of `available()`.
        env: a ModelMerge environment, `gym.make("ModelMerge-v0", …)`; not to be stepped by others.
        seed: of everything random in the search.
        directory: where the run keeps its files.
        **hyperparameters: the fields of the agent's class; those not given have their defaults.

    Raises:
        ValueError: an unknown agent or hyper-parameter, or a value out of range.
    """
    if name not in _AGENTS:
        raise ValueError(unknown_name("agent", name, available()))
    return _AGENTS[name](env, seed, Path(directory), **_checked(name, hyperparameters))


def hyperparameters(cls: type[Agent]) -> dict[str, Hyperparameter]:
    """The hyper-parameters of an agent class, as its annotations describe them."""
    hints = get_type_hints(cls, include_extras=True)
    shared = {field.name for field in fields(Agent)}
    return {
        field.name: _specification(field.name, hints[field.name], field.default)
        for field in fields(cls)
        if field.name not in shared and field.init
    }


def _specification(name: str, annotation: Any, default: Any) -> Hyperparameter:
    allowed = Range()
    if get_origin(annotation) is Annotated:
        annotation, allowed = get_args(annotation)
    return Hyperparameter(name, default, KINDS[annotation], allowed)


def _checked(name: str, given: dict[str, Any]) -> dict[str, Any]:
    known = hyperparameters(_AGENTS[name])
    checked = {}
    for key, value in given.items():
        if key not in known:
            raise ValueError(unknown_name(f"hyper-parameter of agent {name!r}", key, known))
        try:
            checked[key] = known[key].check(value, experts=0)
        except ValueError:
            raise ValueError(
                f"agent {name!r}: {key} is {known[key].expected()}, got {value!r}"
            ) from None
    return checked
