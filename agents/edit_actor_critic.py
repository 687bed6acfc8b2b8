"""Actor-critic over edits of an incumbent: reinforcement learning as improvement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from agents.agent import Agent, agent
from agents.choices import Choices, Words, check_walk
from agents.critic import ChainCritic
from agents.improvement import expected_improvement
from agents.priors import load_prior, roles_of
from agents.racing import Race, Racer, check_budget, race_starts
from merge_gym.settings import Range
from merge_gym.studies.study import Study

DOUBLE, TRIPLE, ANYWHERE = 150, 80, 20
"""How many edits of two layers, of three, and recipes from anywhere the actor draws among, beside
every edit of one layer."""

SMALLEST = 1e-30
"""Points of improvement below which all edits are as unlikely."""

WORST = -25.0
"""Points that a critic is told at most of a loss: how broken a broken recipe is teaches nothing."""


@agent("edit_actor_critic")
@dataclass
class EditActorCritic(Agent):
    """Learns which edits improve the incumbent, from the races of all edits so far.

    State: the incumbent. Action: another choice at one to three layers; never a recipe that was
    tried. Reward: the raced difference to the incumbent on the same subsets, in points; the
    incumbent moves when the challenger wins on all of them. The critic is a Bayesian linear model
    of layers and neighbouring pairs of layers (`ChainCritic`), updated exactly after each race by
    its difference and the variance of that; it says of every edit how much may be won. The actor
    draws edits the more often, the larger that expected improvement is: from a softmax of its
    logarithm. It begins at the best of the space's starts, which race too.

    Args:
        z: of the race, in standard errors; the fewer, the sooner challengers are dropped.
        temperature: of the softmax; at 1 an edit is as likely as its improvement is large.
        layer_sd, pair_sd: of the critic's effects beforehand, in points.
        misfit: standard deviation of what the critic cannot express, in points.
        prior: a file of `agents.priors`: what other suites' tables say of the effects. They then
            vary half as much about it as they would about nothing.
    """

    z: Annotated[float, Range(0)] = 1.0
    temperature: Annotated[float, Range(1e-3)] = 0.3
    layer_sd: Annotated[float, Range(1e-3)] = 3.0
    pair_sd: Annotated[float, Range(1e-3)] = 3.0
    misfit: Annotated[float, Range(1e-3)] = 1.0
    prior: str | None = None

    def check(self, study: Study) -> None:
        check_walk("edit_actor_critic", study)
        check_budget("edit_actor_critic", study)
        if self.prior is not None:
            load_prior(self.prior)  # refuses what is none

    def run(self, study: Study) -> None:
        generator = np.random.default_rng(study.seed)
        racer, words = Racer(study, self.z, generator), Words(study.space)
        races = race_starts(racer)
        critic = self._critic(words, study, races)
        tried = {words.read(racer.incumbent).tobytes()}

        def learn(race: Race) -> None:
            challenger, incumbent = words.read(race.challenger), words.read(race.incumbent)
            tried.update((challenger.tobytes(), incumbent.tobytes()))
            variance = race.variance + self.misfit**2
            critic.learn(challenger, incumbent, max(race.difference, WORST), variance)

        for race in races:
            learn(race)
        while len(edits := untried(words, words.read(racer.incumbent), tried, generator)):
            leads, sds = critic.leads(edits, words.read(racer.incumbent))
            improvements = expected_improvement(leads, np.hypot(sds, self.misfit))
            logits = np.log(np.maximum(improvements, SMALLEST)) / self.temperature
            drawn = logits + generator.gumbel(size=len(edits))
            learn(racer.race(words.spell(edits[int(drawn.argmax())])))

    def _critic(self, words: Words, study: Study, races: list[Race]) -> ChainCritic:
        """The critic before any race, told by the prior which starts did well in theirs."""
        sds = np.array([self.layer_sd, self.pair_sd])
        if self.prior is None:
            return ChainCritic(words.layers, words.choices, *sds)
        roles = roles_of(study.space.candidates, worth_of_starts(races))
        critic = ChainCritic(words.layers, words.choices, *(sds / 2))
        critic.mean += load_prior(self.prior).mean(roles, words.layers)
        return critic


def worth_of_starts(races: list[Race]) -> dict[str, float]:
    """{candidate: how good its uniform merge is}, in points, about the first one's."""
    worth: dict[str, float] = {}
    for race in races:
        incumbent, challenger = (
            str(next(iter(of.values()))) for of in (race.incumbent, race.challenger)
        )
        worth[challenger] = worth.setdefault(incumbent, 0.0) + race.difference
    return worth


def untried(
    words: Words, incumbent: Choices, tried: set[bytes], generator: np.random.Generator
) -> Choices:
    """Edits that were not tried, each once: all of one layer, some of two and three, and a few
    recipes from anywhere; shape (n, L)."""
    layers, choices = words.layers, words.choices
    single = np.repeat(incumbent[None], layers * choices, axis=0)
    single[np.arange(len(single)), np.arange(len(single)) // choices] = np.tile(
        np.arange(choices), layers
    )
    drawn = [
        _edited(incumbent, count, places, choices, generator)
        for places, count in ((2, DOUBLE), (3, TRIPLE))
        if places <= layers
    ]
    anywhere = generator.integers(choices, size=(ANYWHERE, layers))
    edits = np.unique(np.concatenate([single, *drawn, anywhere]), axis=0)
    return edits[[edit.tobytes() not in tried for edit in edits]]


def _edited(
    incumbent: Choices, count: int, places: int, choices: int, generator: np.random.Generator
) -> Choices:
    """The incumbent `count` times, with choices drawn anew at `places` random layers of each."""
    edits = np.repeat(incumbent[None], count, axis=0)
    where = generator.random(edits.shape).argsort(axis=1)[:, :places]
    np.put_along_axis(edits, where, generator.integers(choices, size=where.shape), axis=1)
    return edits
