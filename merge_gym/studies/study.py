"""One search: space, scorer, budget, seed, and a folder that survives being killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from merge_gym.evaluation.journal import Journal
from merge_gym.evaluation.scorer import NOTHING, Outcome, Request, Scorer
from merge_gym.evaluation.table import Table
from merge_gym.files import Closing, FolderLock, JsonLines, read_json, write_json
from merge_gym.spaces.space import Space
from merge_gym.studies.budget import Budget, BudgetSpent
from merge_gym.studies.trial import Trial

__all__ = ["BudgetSpent", "Study", "Trial"]

JOURNAL, TRIALS, DESCRIPTION = "scores.jsonl", "trials.jsonl", "study.json"

Subsets = int | tuple[int, ...] | None


class Study(Closing):
    """Spends a budget on a space: every score that a search asks for goes through it.

    A search is a function of its space, seed and what it is told; so a study that was killed at any
    moment goes on by being run again in its folder: what the journal (`scores.jsonl`) holds is not
    computed again, and it ends as if it had not been killed. `trials.jsonl` lists what was tried.

    Args:
        space: what may be decided.
        scorer: what scores recipes.
        budget: evaluation cost that may be spent, in examples pushed through a whole model; each
            example of a recipe is paid once, and nothing else is. None for no bound.
        seed: of everything random in the search.
        directory: where its files lie; None keeps none.
        resume: go on with the study in the directory, or begin it if there is none.

    Attributes:
        trials: what was tried so far, in order.
        listeners: called with each new trial.
        scorer: for environments: scores what it is asked for, charged, and as trials.
        reporter: scores for reports, the test split too: kept in the journal, and not charged.

    Raises:
        ValueError: the directory holds a study and `resume` is false, or is in use; a seed that is
            none.
    """

    def __init__(
        self,
        space: Space,
        scorer: Scorer,
        budget: int | None = None,
        seed: int = 0,
        directory: str | Path | None = None,
        resume: bool = False,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"a seed is a whole number of at least 0, got {seed!r}")
        self.space, self.seed = space, seed
        self.directory = None if directory is None else Path(directory)
        self.trials: list[Trial] = []
        self.listeners: list[Callable[[Trial], object]] = []
        self._budget = Budget(budget, scorer)
        self._stacking = not isinstance(scorer, Table)
        self._lock: FolderLock | None = None
        self._lines: JsonLines | None = None
        self.reporter = scorer
        if self.directory is not None:
            self.reporter = self._open(self.directory, scorer, resume)
        self.scorer: Scorer = _ForEnvironments(self)

    @property
    def budget(self) -> int | None:
        """The evaluation cost that may be spent."""
        return self._budget.total

    @property
    def spent(self) -> int:
        """The evaluation cost that was charged so far."""
        return self._budget.spent

    @property
    def full_cost(self) -> int:
        """The cost of one full evaluation: the examples of the search split over all tasks."""
        return self.reporter.whole_cost()

    @property
    def subset_count(self) -> int:
        """S, in how many subsets the search split is dealt."""
        return self.reporter.subset_count

    @property
    def stacking(self) -> bool:
        """Whether its scorer knows recipes that stack layers; a table does not."""
        return self._stacking

    @contextmanager
    def keeping_back(self, cost: int) -> Iterator[None]:
        """Inside, the budget is smaller by `cost`, which is then there for what follows."""
        self._budget.kept_back += cost
        try:
            yield
        finally:
            self._budget.kept_back -= cost

    def begin(self, agent: Mapping[str, Any]) -> None:
        """Say who searches; called once, before the first evaluation.

        Args:
            agent: all of the agent that the search depends on, as JSON values.

        Raises ValueError where the folder's study was begun otherwise.
        """
        if self.directory is None:
            return
        asked = {"agent": agent, "seed": self.seed, "space": self.space.describe()}
        asked["subsets"] = self.subset_count
        asked = json.loads(json.dumps(asked))
        file = self.directory / DESCRIPTION
        if file.exists():
            begun = read_json(file)
            if differ := _differences(begun, asked):
                raise ValueError(
                    f"the study in {self.directory} was begun otherwise ({'; '.join(differ[:4])}): "
                    f"resume it as it was, or name another folder"
                )
        write_json(file, asked)

    def evaluate(self, decisions: Mapping[str, Any], subsets: Subsets = None) -> Trial:
        """Score decisions.

        Args:
            decisions: {name: value} of every decision of the space.
            subsets: which of the search split, or the first how many; None for all of it.

        Raises:
            BudgetSpent: it would cost more than is left.
            ValueError: a decision that is missing, unknown or out of range.
        """
        return self.evaluate_all([decisions], subsets)[0]

    def evaluate_all(
        self, several: Sequence[Mapping[str, Any]], subsets: Subsets = None
    ) -> list[Trial]:
        """Score several decisions together, so that what they share is computed once; as
        `evaluate`. BudgetSpent is raised before any is scored. Those that the space calls invalid
        are trials with nothing but zeros, charged nothing."""
        checked = [self.space.check(decisions) for decisions in several]
        requests = [
            Request(self.space.recipe(each), subsets=subsets)  # type: ignore[arg-type]
            for each in checked
        ]
        valid = [self.space.valid(each) for each in checked]
        scored = iter(self.score(list(compress(requests, valid)), list(compress(checked, valid))))
        return [
            next(scored) if valid[place] else self._unscored(request, checked[place])
            for place, request in enumerate(requests)
        ]

    def score(
        self,
        requests: Sequence[Request],
        decisions: Sequence[dict[str, Any] | None] | None = None,
    ) -> list[Trial]:
        """Charge and score requests, and keep each as a trial, with what spelt it where given."""
        charges = self._budget.charge(requests)
        outcomes = self.reporter.evaluate(requests)
        trials = []
        for place, (request, outcome) in enumerate(zip(requests, outcomes, strict=True)):
            spelt = None if decisions is None else decisions[place]
            trial = Trial(
                number=len(self.trials),
                recipe=request.recipe,
                decisions=spelt,
                subsets=request.subsets,
                outcome=outcome,
                charged=charges[place],
                spent=self._budget.spent - sum(charges[place + 1 :]),
            )
            trials.append(self._keep(trial))
        return trials

    def best(self) -> Trial:
        """The best of all trials that were scored on the whole search split, the first of equals;
        ValueError if there is none."""
        full = [trial for trial in self.trials if trial.valid and self._is_full(trial)]
        if not full:
            raise ValueError(
                f"none of {len(self.trials)} trials was scored on the whole search split: search "
                f"with a larger budget (one full score costs {self.full_cost} examples)"
            )
        return max(full, key=lambda trial: trial.mean)

    def close(self) -> None:
        """Close the files and let others have the folder."""
        if isinstance(self.reporter, Journal):
            self.reporter.close()
        if self._lines is not None:
            self._lines.close()
        if self._lock is not None:
            self._lock.release()

    def _open(self, directory: Path, scorer: Scorer, resume: bool) -> Journal:
        self._lock = FolderLock(directory)
        try:
            if (directory / DESCRIPTION).exists() and not resume:
                raise ValueError(
                    f"{directory} holds a study already: continue it with resume, or name another "
                    f"folder"
                )
            return Journal(scorer, directory / JOURNAL)
        except BaseException:
            self._lock.release()
            raise

    def _unscored(self, request: Request, decisions: dict[str, Any]) -> Trial:
        """A trial of what the space calls invalid."""
        of = {
            task: Request(NOTHING, subsets=request.subsets, tasks=(task,))
            for task in self.reporter.tasks
        }
        values = {task: np.zeros(self.reporter.cost(one), np.float32) for task, one in of.items()}
        number, outcome = len(self.trials), Outcome(values, cost=0)
        trial = Trial(number, request.recipe, decisions, request.subsets, outcome, 0, self.spent)
        return self._keep(trial)

    def _is_full(self, trial: Trial) -> bool:
        return trial.subsets is None or len(trial.subsets) == self.subset_count

    def _keep(self, trial: Trial) -> Trial:
        self.trials.append(trial)
        if self.directory is not None:
            if self._lines is None:  # not before: a study that is refused leaves the file as it is
                self._lines = JsonLines(self.directory / TRIALS, fresh=True)
            self._lines.append(trial.to_dict())
        for listener in self.listeners:
            listener(trial)
        return trial


class _ForEnvironments(Scorer):
    """The study as a Scorer: what an environment asks for is charged, and a trial."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.tasks, self.subset_count = study.reporter.tasks, study.reporter.subset_count

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        return [trial.outcome for trial in self.study.score(requests)]

    def cost(self, request: Request) -> int:
        return self.study.reporter.cost(request)


def _differences(begun: Any, asked: Any, where: str = "") -> list[str]:
    """What differs between two values of JSON, by name."""
    if isinstance(begun, dict) and isinstance(asked, dict):
        names = dict.fromkeys([*begun, *asked])
        return [
            line
            for name in names
            for line in _differences(begun.get(name), asked.get(name), f"{where}{name}.")
        ]
    return [] if begun == asked else [f"{where[:-1]} was {begun!r}, is {asked!r}"]
