"""From experts alone, the cheapest joins first: backward greedy search of a modular space."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Literal

from agents.agent import Agent, agent
from agents.sharing import joins, modular_space, score_starts
from merge_gym.spaces.space import Decisions
from merge_gym.studies.study import Study

AT_ONCE = 16


@agent("backward_greedy")
@dataclass
class BackwardGreedy(Agent):
    """Begins with every expert by itself and joins two groups of one component at a time: always
    those that cost the least accuracy for what they save. A join's cost was measured when something
    else was not yet joined; so the cheapest is measured again before it is taken.

    Groups are merged by the method of the best uniform merge.

    Args:
        residual: what tasks keep of their experts beside a merged module.
    """

    residual: Literal["none", "sign", "rank"] = "none"

    def check(self, study: Study) -> None:
        space = modular_space(study)
        if self.residual != "none" and not space.residuals:
            raise ValueError("the space has no residuals: set space.residuals=true")

    def run(self, study: Study) -> None:
        space, method = modular_space(study), score_starts(study)
        current, stamp, tie = space.starts()["experts"], 0, itertools.count()
        queue: list[tuple[float, int, int, str, Decisions]] = []

        def measure(changes: list[tuple[str, Decisions]]) -> None:
            for at in range(0, len(changes), AT_ONCE):
                part = changes[at : at + AT_ONCE]
                trials = study.evaluate_all([decisions for _, decisions in part])
                for (name, decisions), trial in zip(part, trials, strict=True):
                    saved = space.storage(current) - space.storage(decisions)
                    if saved > 0:
                        price = (accuracy - trial.mean) / saved
                        heapq.heappush(queue, (price, next(tie), stamp, name, decisions))

        def here(name: str) -> list[tuple[str, Decisions]]:
            return [(name, to) for to in joins(space, current, name, method, self.residual)]

        accuracy = study.evaluate(current).mean
        measure([change for name in space.places for change in here(name)])
        while queue:
            _, _, measured, name, decisions = heapq.heappop(queue)
            grouping = decisions[f"{name}:groups"]
            fresh = [to for to in here(name) if to[1][f"{name}:groups"] == grouping]
            if not fresh:
                continue
            if measured < stamp:
                measure(fresh)
                continue
            current, stamp = decisions, stamp + 1
            accuracy = study.evaluate(current).mean
            queue = [entry for entry in queue if entry[3] != name]
            heapq.heapify(queue)
            measure(here(name))
