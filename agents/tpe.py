"""Optuna's tree-structured Parzen estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from agents.agent import Agent, agent
from agents.encoding import library
from agents.racing import check_budget
from merge_gym.settings import Range, Setting
from merge_gym.spaces.space import Decisions
from merge_gym.studies.study import Study


@agent("tpe")
@dataclass
class ParzenEstimator(Agent):
    """Asks Optuna's TPE for decisions and scores each on the whole search split; the space's starts
    come first (Bergstra et al., 2011; the package optuna).

    Args:
        startup: random decisions beside the starts, before the estimator is asked.
    """

    startup: Annotated[int, Range(0)] = 5

    def check(self, study: Study) -> None:
        check_budget("tpe", study)
        library("tpe", "optuna")

    def run(self, study: Study) -> None:
        optuna = library("tpe", "optuna")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        starts = list(study.space.starts().values())
        sampler = optuna.samplers.TPESampler(
            seed=study.seed, n_startup_trials=len(starts) + self.startup
        )
        optimiser = optuna.create_study(sampler=sampler, direction="maximize")
        ranges = {of.name: _distribution(optuna, of) for of in study.space.decisions.values()}
        for start in starts:
            optimiser.enqueue_trial(start)
        while True:
            asked = optimiser.ask(ranges)
            decisions: Decisions = dict(asked.params)
            optimiser.tell(asked, study.evaluate(decisions).mean)


def _distribution(optuna: Any, setting: Setting) -> Any:
    low, high = setting.range.low, setting.range.high
    if setting.kind == "number":
        return optuna.distributions.FloatDistribution(low, high)
    if setting.kind == "integer":
        return optuna.distributions.IntDistribution(int(low), int(high))
    choices = setting.choices if setting.kind == "choice" else (False, True)
    return optuna.distributions.CategoricalDistribution(choices)
