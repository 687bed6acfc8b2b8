"""Searches of a modular space by rule: the first or last components, or what is alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agents.agent import Agent, agent
from agents.sharing import grouped_by_likeness, kept_ends, modular_space, score_starts
from merge_gym.studies.study import Study

AT_ONCE = 8


@agent("kept_ends")
@dataclass
class KeptEnds(Agent):
    """Scores the best uniform merge with its first (or last) k components kept for each task.

    Args:
        end: which are kept.
    """

    end: Literal["first", "last"] = "first"

    def check(self, study: Study) -> None:
        modular_space(study)

    def run(self, study: Study) -> None:
        paths = kept_ends(modular_space(study), score_starts(study), self.end == "first")
        for at in range(0, len(paths), AT_ONCE):
            study.evaluate_all(paths[at : at + AT_ONCE])


@agent("likeness")
@dataclass
class Likeness(Agent):
    """Scores the libraries on the way from experts alone to one merge, the most alike joined
    first; grouping looks at weights only. After FlexMerge (arXiv:2505.23209)."""

    def check(self, study: Study) -> None:
        modular_space(study)

    def run(self, study: Study) -> None:
        paths = grouped_by_likeness(modular_space(study), score_starts(study))
        for at in range(0, len(paths), AT_ONCE):
            study.evaluate_all(paths[at : at + AT_ONCE])
