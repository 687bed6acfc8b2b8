"""Recipes for the tests of evaluation, made the way an agent makes them."""

import numpy as np
from hypothesis import strategies as st

from merge_gym.spaces.episode import Episode


def random_recipes(bank, count, seed=0, max_steps=12):
    """`count` recipes of random walks, with skips and stacked layers."""
    generator = np.random.default_rng(seed)
    recipes = []
    while len(recipes) < count:
        episode = Episode(len(bank.candidates), tuple(bank.segments.values()), max_steps)
        while not episode.ended:
            episode.step(int(generator.choice(np.flatnonzero(episode.mask()))))
        if episode.complete:
            recipes.append(bank.recipe(episode.taken))
    return recipes


def recipes(bank):
    """Any recipe of a bank: each layer zero to two times, from any source."""
    layers = sum(bank.segments.values())
    taken = st.lists(
        st.tuples(st.integers(0, layers - 1), st.integers(0, len(bank.candidates) - 1)),
        max_size=2 * layers,
    )
    return taken.map(bank.recipe)
