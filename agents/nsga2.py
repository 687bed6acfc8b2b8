"""NSGA-II over accuracy and storage, of pymoo, seeded with libraries by rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from agents.agent import Agent, agent
from agents.encoding import library
from agents.sharing import grouped_by_likeness, kept_ends, modular_space, score_starts
from merge_gym.settings import Range
from merge_gym.spaces.modular import Modular
from merge_gym.spaces.space import Decisions
from merge_gym.studies.study import Study


@agent("nsga2")
@dataclass
class NSGA2(Agent):
    """Deb's NSGA-II (2002) as pymoo has it, on decisions by the numbers of their words.

    The first population holds the uniform merges, the experts, and libraries of every size that
    keep the first or last components, or join what is alike; the rest is drawn.

    Args:
        population: how many libraries a generation has.
        changes: how many decisions a mutation draws anew, on average.
    """

    population: Annotated[int, Range(4)] = 20
    changes: Annotated[float, Range(0)] = 2.0

    def check(self, study: Study) -> None:
        modular_space(study)
        library("nsga2", "pymoo")

    def run(self, study: Study) -> None:
        from pymoo.core.evaluator import Evaluator
        from pymoo.problems.static import StaticProblem

        space, generator = modular_space(study), np.random.default_rng(study.seed)
        first = self._first(study, space, generator)
        algorithm = _algorithm(space, first, self.changes, study.seed)
        while (asked := algorithm.ask()) is not None and len(asked):
            several = [_decisions(space, row) for row in asked.get("X")]
            trials = study.evaluate_all(several)
            values = [
                (-trial.mean, space.storage(decisions))
                for trial, decisions in zip(trials, several, strict=True)
            ]
            Evaluator().eval(StaticProblem(algorithm.problem, F=np.array(values)), asked)
            algorithm.tell(infills=asked)

    def _first(
        self, study: Study, space: Modular, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        method = score_starts(study)
        rules = [
            path[:: max(1, len(path) // 4)][:4]
            for path in (
                kept_ends(space, method, True),
                kept_ends(space, method, False),
                grouped_by_likeness(space, method),
            )
        ]
        known = [
            *space.starts().values(),
            *(one for several in zip(*rules, strict=True) for one in several),
        ]
        drawn = [space.sample(generator) for _ in range(self.population)]
        return np.array([_numbers(space, one) for one in (known + drawn)[: self.population]])


def _numbers(space: Modular, decisions: Decisions) -> list[int]:
    return [of.choices.index(decisions[name]) for name, of in space.decisions.items()]


def _decisions(space: Modular, row: NDArray[Any]) -> Decisions:
    names = space.decisions.items()
    return {name: of.choices[int(number)] for (name, of), number in zip(names, row, strict=True)}


def _algorithm(space: Modular, first: NDArray[np.int64], changes: float, seed: int) -> Any:
    from pymoo.algorithms.moo.nsga2 import NSGA2 as Algorithm  # noqa: N811
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UniformCrossover

    counts = np.array([len(of.choices) for of in space.decisions.values()])
    drawing = np.random.default_rng(seed + 1)

    class Redrawn(Mutation):
        def _do(self, problem: Any, X: NDArray[Any], **_: Any) -> NDArray[Any]:  # noqa: N803
            chosen = drawing.random(X.shape) < changes / X.shape[1]
            return np.where(chosen, drawing.integers(0, counts, X.shape), X)

    problem = Problem(n_var=len(counts), n_obj=2, xl=0, xu=counts - 1, vtype=int)
    algorithm = Algorithm(
        pop_size=len(first), sampling=first, crossover=UniformCrossover(), mutation=Redrawn()
    )
    algorithm.setup(problem, seed=seed, termination=("n_gen", 10**9), verbose=False)
    return algorithm
