"""Tables of random bits: every recipe's score is known, and no model is needed."""

from __future__ import annotations

import numpy as np

from merge_gym import Source, Table
from merge_gym.evaluation.table_file import Rows
from merge_gym.recipe import whole
from merge_gym.spaces.candidates import Candidates

EXAMPLES = {"odd": 53, "even": 40}


def random_table(
    candidates: int = 3, layers: int = 3, subsets: int = 5, seed: int = 0, digest: str = "0"
) -> Table:
    """Recipes of different quality, on two tasks of unequal size."""
    generator = np.random.default_rng(seed)
    names = [f"expert-{number}" for number in range(candidates)]
    sources = [Source.expert(name) for name in names]
    recipes = (candidates + 1) ** layers
    quality = generator.uniform(0.2, 0.8, (recipes, 1))
    right = {task: generator.random((recipes, n)) < quality for task, n in EXAMPLES.items()}
    rows = Rows(
        {task: np.packbits(of, axis=1) for task, of in right.items()},
        {task: np.arange(n) % 4 for task, n in EXAMPLES.items()},
    )
    made = Candidates("random", digest, {"layers": layers}, sources, names, whole(sources[0]))
    return Table(made, {"search": rows}, subsets)
