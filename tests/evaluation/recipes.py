"""Recipes for the tests of evaluation, made the way an agent makes them."""

import numpy as np
from hypothesis import strategies as st

from merge_gym import Layer, LayerBank, Recipe
from merge_gym.recipe import LAYER_COMPONENTS, SHARED_COMPONENTS
from merge_gym.spaces.episode import Episode


def random_recipes(bank, count, seed=0, max_steps=12):
    """`count` recipes of random walks, with skips and stacked layers."""
    generator = np.random.default_rng(seed)
    recipes, sizes = [], tuple(bank.candidates.segments.values())
    while len(recipes) < count:
        episode = Episode(len(bank.candidates), sizes, max_steps)
        while not episode.ended:
            episode.step(int(generator.choice(np.flatnonzero(episode.mask()))))
        if episode.complete:
            recipes.append(bank.candidates.recipe(episode.taken))
    return recipes


def recipes(bank):
    """Any recipe of a bank: each layer zero to two times, from any source."""
    layers = sum(bank.candidates.segments.values())
    taken = st.lists(
        st.tuples(st.integers(0, layers - 1), st.integers(0, len(bank.candidates.names) - 1)),
        max_size=2 * layers,
    )
    return taken.map(bank.candidates.recipe)


@st.composite
def scaled_recipes(draw: st.DrawFn, bank: LayerBank) -> Recipe:
    """Recipes whose layers come from a source for each component, with scales of both kinds."""
    sources = st.sampled_from(bank.candidates.sources)
    scales = st.floats(0.25, 2.0)
    segments = []
    for segment, size in bank.candidates.segments.items():
        layers = []
        for index in draw(st.lists(st.integers(0, size - 1), max_size=size + 1)):
            parts = tuple((component, draw(sources)) for component in LAYER_COMPONENTS)
            layers.append(Layer(index, parts, draw(scales), draw(scales)))
        segments.append((segment, tuple(layers)))
    shared = tuple((component, draw(sources)) for component in SHARED_COMPONENTS)
    return Recipe(bank.suite.digest, shared, tuple(segments))
