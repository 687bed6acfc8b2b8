"""What a critic can know of a suite before it has seen it: effects learnt on other suites' tables.

Candidates are told apart by their role, not by their name: skip, the best expert by its uniform
merge, the other experts, the best operator, the others; and layers by their depth::

    learn_prior([load_table("fashion-halves-0")]).save(Path("prior.json"))
    agents.make("edit_actor_critic", prior="prior.json")
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.critic import ChainCritic
from merge_gym.evaluation.table import Table
from merge_gym.files import write_text
from merge_gym.spaces.candidates import Candidates

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

ROLES = ("best expert", "expert", "best operator", "operator", "skip")
FORMAT = "merge_gym.prior/1"

SAMPLES = 4000
"""Recipes of each table that effects are fitted to."""

SOFTNESS = 8.0
"""Points below a table's optimum at which a recipe counts 1/e of one at it."""


@dataclass(frozen=True)
class Prior:
    """Effects of roles, in points.

    Attributes:
        layers: of a role at each of D depths, shape (D, R).
        pairs: of two roles at neighbouring depths, shape (D-1, R, R).
    """

    layers: Floats
    pairs: Floats

    def mean(self, roles: Numbers, layers: int) -> Floats:
        """The effects that `ChainCritic` begins with, where choice k has role roles[k]."""
        at = np.rint(np.linspace(0, len(self.layers) - 1, layers)).astype(int)
        between = np.rint(np.linspace(0, len(self.pairs) - 1, layers - 1)).astype(int)
        single = self.layers[at][:, roles]
        pairs = self.pairs[between][:, roles][:, :, roles]
        return np.concatenate([single.ravel(), pairs.ravel()])

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        values = {"layers": self.layers.tolist(), "pairs": self.pairs.tolist()}
        write_text(file, json.dumps({"format": FORMAT, "roles": ROLES} | values))


def load_prior(file: str | Path) -> Prior:
    """Read what `Prior.save` wrote; ValueError where it is none."""
    try:
        data: Any = json.loads(Path(file).read_text())
        layers, pairs = np.array(data["layers"], float), np.array(data["pairs"], float)
        count = len(ROLES)
        shapes = (len(layers), count), (len(layers) - 1, count, count)
        if data["format"] != FORMAT or (layers.shape, pairs.shape) != shapes:
            raise ValueError("its format or its shapes are others")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no prior of this version ({error})") from None
    return Prior(layers, pairs)


def roles_of(candidates: Candidates, uniform: Mapping[str, float]) -> Numbers:
    """The role of each candidate and, at the end, of skip, shape (N+M+1,).

    Args:
        candidates: N experts, then M operators.
        uniform: {candidate: how good its uniform merge is}, on any scale.
    """
    experts = len(candidates.experts)
    roles = [1] * experts + [3] * (len(candidates) - experts) + [4]
    for first, names in ((0, candidates.names[:experts]), (experts, candidates.names[experts:])):
        if names:
            best = max(names, key=lambda name: uniform.get(name, 0.0))
            roles[first + names.index(best)] -= 1
    return np.array(roles)


def learn_prior(tables: Sequence[Table], ridge: float = 1.0, seed: int = 0) -> Prior:
    """Fit the effects of roles to recipes of tables that all have the same number of layers.

    Ridge regression of the scores, each table about a mean of its own, with weights that fall off
    below the table's optimum; what a search meets is near it.
    """
    depths = {table.candidates.depth for table in tables}
    if len(depths) != 1:
        raise ValueError(f"tables of one number of layers are needed, got {sorted(depths)}")
    critic = ChainCritic(depths.pop(), len(ROLES), 1.0, 1.0)
    generator = np.random.default_rng(seed)
    squares, products = ridge * np.eye(len(critic.mean)), np.zeros(len(critic.mean))
    for table in tables:
        recipes, scores = _sampled(table, critic.layers, generator)
        weights = np.exp((scores - scores.max()) / SOFTNESS)
        effects = critic.effects(recipes)
        rows = np.zeros((len(recipes), len(critic.mean)))
        np.put_along_axis(rows, effects, 1.0, axis=1)
        rows -= np.average(rows, axis=0, weights=weights)
        scores = scores - np.average(scores, weights=weights)
        squares += (rows * weights[:, None]).T @ rows
        products += (rows * weights[:, None]).T @ scores
    fitted: Floats = np.linalg.solve(squares, products).astype(np.float64)
    count, single = len(ROLES), critic.layers * len(ROLES)
    return Prior(fitted[:single].reshape(-1, count), fitted[single:].reshape(-1, count, count))


def _sampled(table: Table, layers: int, generator: np.random.Generator) -> tuple[Numbers, Floats]:
    """Some recipes as roles, shape (n, L), and their scores × 100."""
    scores, choices = 100 * table.scores(), len(table.candidates) + 1
    places = choices ** np.arange(layers)[::-1]
    uniform = {
        name: float(scores[int(number * places.sum())])
        for number, name in enumerate(table.candidates.names)
    }
    chosen = generator.choice(len(table), min(SAMPLES, len(table)), replace=False)
    codes = chosen[:, None] // places % choices
    return roles_of(table.candidates, uniform)[codes], scores[chosen]
