"""The critic against least squares, and the search on a landscape whose optimum is known."""

import numpy as np
import pytest

import agents
from agents.choices import Words
from agents.critic import ChainCritic
from agents.edit_actor_critic import untried
from agents.improvement import expected_improvement
from merge_gym import Request
from merge_gym.studies.study import Study
from tests.agents.landscapes import EXPERTS, Landscape, taken, walk

LAYERS, CHOICES = 4, 4
WORTH = np.random.default_rng(1).normal(0, 3, (LAYERS, CHOICES))
TOGETHER = np.random.default_rng(2).normal(0, 2, (LAYERS - 1, CHOICES, CHOICES))


def worth(choices):
    """In points: layers and neighbouring pairs, as the critic has it."""
    single = sum(WORTH[layer, choice] for layer, choice in enumerate(choices))
    pairs = zip(TOGETHER, choices[:-1], choices[1:], strict=True)
    return single + sum(of[first, second] for of, first, second in pairs)


def choices_of(recipe):
    [(_, layers)] = recipe.segments
    named = {layer.index: EXPERTS.index(layer.source.name) for layer in layers}
    return [named.get(layer, CHOICES - 1) for layer in range(LAYERS)]


def score(recipe, subset):
    noise = np.random.default_rng([subset, *choices_of(recipe)]).normal(0, 2)
    return (60 + worth(choices_of(recipe)) + noise) / 100


def study(budget, seed=0, **settings):
    scorer = Landscape(score)
    return Study(walk(), scorer, round(budget * scorer.whole_cost()), seed, **settings)


def searched(budget, seed=0, name="edit_actor_critic", **settings):
    of = study(budget, seed)
    agents.make(name, **settings).search(of)
    return of


def test_the_critic_is_the_posterior_of_a_linear_model():
    """Held against the normal equations, solved at once."""
    generator = np.random.default_rng(0)
    critic = ChainCritic(3, 2, layer_sd=2.0, pair_sd=1.0)
    rows, seen, weights = [], [], []
    for _ in range(12):
        first, second = generator.integers(2, size=(2, 3))
        row = np.zeros(3 * 2 + 2 * 4)
        for sign, recipe in ((1, first), (-1, second)):
            for layer in range(3):
                row[2 * layer + recipe[layer]] += sign
            for layer in range(2):
                row[6 + 4 * layer + 2 * recipe[layer] + recipe[layer + 1]] += sign
        rows.append(row)
        seen.append(generator.normal())
        weights.append(1 / generator.uniform(0.5, 2))
        critic.learn(first, second, seen[-1], 1 / weights[-1])
    design, precision = np.array(rows), np.repeat([1 / 4, 1.0], [6, 8])
    information = np.diag(precision) + design.T @ (np.array(weights)[:, None] * design)
    mean = np.linalg.solve(information, design.T @ (np.array(weights) * seen))
    np.testing.assert_allclose(critic.mean, mean, atol=1e-9)
    np.testing.assert_allclose(critic.covariance, np.linalg.inv(information), atol=1e-9)
    recipes = generator.integers(2, size=(5, 3))
    by_hand = [
        mean[[r[0], 2 + r[1], 4 + r[2], 6 + 2 * r[0] + r[1], 10 + 2 * r[1] + r[2]]].sum()
        for r in recipes
    ]
    leads, sds = critic.leads(recipes, recipes[0])
    np.testing.assert_allclose(leads, np.array(by_hand) - by_hand[0], atol=1e-12)
    one, other = critic.effects(recipes[:2])
    row = np.zeros(14)
    np.add.at(row, other, 1)
    np.add.at(row, one, -1)
    assert sds[0] == 0
    assert sds[1] == pytest.approx(np.sqrt(row @ np.linalg.inv(information) @ row))


def test_the_expected_improvement_is_the_mean_of_what_is_above_nothing():
    leads, sds = np.array([-3.0, 0.0, 2.0]), np.array([1.0, 2.0, 0.5])
    drawn = np.random.default_rng(0).normal(leads, sds, (400_000, 3))
    by_chance = np.maximum(drawn, 0).mean(axis=0)
    np.testing.assert_allclose(expected_improvement(leads, sds), by_chance, rtol=0.05, atol=1e-4)


def test_edits_are_new_and_hold_every_single_one():
    words, incumbent = Words(walk()), np.array([0, 1, 2, 3])
    tried = {incumbent.tobytes(), np.array([1, 1, 2, 3]).tobytes()}
    edits = untried(words, incumbent, tried, np.random.default_rng(0))
    texts = {edit.tobytes() for edit in edits}
    assert len(texts) == len(edits)
    assert not texts & tried
    changed = (edits != incumbent).sum(axis=1)
    assert (changed == 1).sum() == LAYERS * (CHOICES - 1) - 1
    assert (changed == 2).sum() > 30
    assert (changed == 3).sum() > 30


def test_words_are_read_as_they_were_spelt():
    words = Words(walk())
    for choices in np.random.default_rng(0).integers(CHOICES, size=(10, LAYERS)):
        spelt = words.spell(choices)
        assert choices_of(walk().recipe(spelt)) == choices.tolist()
        np.testing.assert_array_equal(words.read(spelt), choices)


def test_it_finds_what_is_best_and_sooner_than_chance():
    words, scorer = Words(walk()), Landscape(score)
    recipes = [walk().recipe(words.spell(np.array(of))) for of in np.ndindex(*[CHOICES] * LAYERS)]
    best = max(outcome.mean for outcome in scorer.evaluate(list(map(Request, recipes))))
    found = [searched(20, seed).best() for seed in range(6)]
    assert sum(trial.mean == best for trial in found) >= 4
    by_chance = [
        np.random.default_rng(seed).integers(CHOICES, size=(20, LAYERS)) for seed in range(6)
    ]
    random = np.mean([max(map(worth, drawn)) for drawn in by_chance])
    assert np.mean([worth(choices_of(trial.recipe)) for trial in found]) > random + 1


def test_it_never_races_a_recipe_twice_and_ends_when_it_draws_nothing_new():
    of = searched(10_000)
    assert of.spent < of.budget
    assert len({(trial.recipe, trial.subsets) for trial in of.trials if trial.charged}) == len(
        [trial for trial in of.trials if trial.charged]
    )
    assert len({trial.recipe for trial in of.trials}) > 0.9 * CHOICES**LAYERS


def test_a_seed_decides_the_search():
    trials = [[(t.recipe, t.subsets) for t in searched(8, seed).trials] for seed in (1, 1, 2)]
    assert trials[0] == trials[1] != trials[2]


def test_what_it_cannot_search_is_refused(make_study):
    with pytest.raises(ValueError, match=r"edit_actor_critic chooses a source .* not Layerwise"):
        agents.make("edit_actor_critic").search(make_study(12, space="layerwise"))
    with pytest.raises(ValueError, match="at least one full evaluation, 70 examples, got 35"):
        searched(0.5)
    assert taken(searched(1.5).best().recipe) == ["a"] * LAYERS
