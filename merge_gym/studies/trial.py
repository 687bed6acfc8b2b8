"""One thing that a study tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from merge_gym.evaluation.scorer import Outcome


@dataclass(frozen=True)
class Trial:
    """A recipe, what it was scored on, and what that gave.

    Attributes:
        number: from 0, in the order in which a study tried them.
        recipe: what was scored: a Recipe, or a Library where the space spells those.
        decisions: what spelt the recipe; None where an agent built it in an environment.
        subsets: of the search split; None for the whole of it.
        outcome: what scoring gave.
        charged: evaluation cost that the study was charged: nothing for what it had scored before.
        spent: all that it had been charged by then.
    """

    number: int
    recipe: Any
    decisions: dict[str, Any] | None
    subsets: tuple[int, ...] | None
    outcome: Outcome
    charged: int
    spent: int

    @property
    def valid(self) -> bool:
        """Whether it was scored; what its space calls invalid has zeros only."""
        return self.outcome.cost > 0

    @property
    def scores(self) -> dict[str, float]:
        """{task: metric in [0, 1]}."""
        return self.outcome.scores

    @property
    def mean(self) -> float:
        """The mean over tasks."""
        return self.outcome.mean

    def to_dict(self) -> dict[str, Any]:
        """The trial as JSON values; recipes that decisions spell are left out."""
        spelt = {"decisions": self.decisions}
        return {
            "number": self.number,
            **(spelt if self.decisions is not None else {"recipe": self.recipe.to_dict()}),
            "subsets": None if self.subsets is None else list(self.subsets),
            "scores": self.scores,
            "charged": self.charged,
            "spent": self.spent,
        }
