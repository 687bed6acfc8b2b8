"""Agents that learn from batches on one subset: REINFORCE and the tuned PPO."""

import numpy as np
import pytest
import torch

import agents
from agents.reinforce import leave_one_out, softmax
from agents.sb3 import ppo_tuned
from agents.sb3.ppo_tuned import play
from merge_gym.envs.model_merge import ModelMergeEnv
from merge_gym.envs.vector import ModelMergeVectorEnv
from merge_gym.studies.study import Study
from tests.agents.landscapes import Landscape, taken, walk

NAMES = ("reinforce", "ppo_tuned")
RIGHT = ["c", "b", "c", "a"]
NOISE = np.random.default_rng(0).normal(0, 0.05, 10)


def score(recipe, subset):
    """How many layers are right, and what a subset has of its own."""
    [(_, layers)] = recipe.segments
    right = sum(layer.source.name == RIGHT[layer.index] for layer in layers)
    return 0.2 + 0.15 * right + NOISE[subset]


def searched(name, budget=16, seed=0, **settings):
    scorer = Landscape(score)
    study = Study(walk(), scorer, round(budget * scorer.whole_cost()), seed)
    agents.make(name, **settings).search(study)
    return study


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_meets_one_subset_and_the_best_are_scored_whole(name):
    study = searched(name)
    batch = agents.make(name).batch
    drawn = [t for t in study.trials if t.subsets is not None and len(t.subsets) == 1]
    final = [t for t in study.trials if t.subsets is None][1:]
    batches = [t for t in drawn if t.number > study.trials.index(drawn[0])][-batch:]
    assert len({trial.subsets for trial in batches}) == 1
    assert 1 <= len(final) <= 6
    assert study.trials[-1] in final
    assert study.spent <= study.budget


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_what_is_right(name):
    found = [taken(searched(name, seed=seed).best().recipe) for seed in range(3)]
    assert np.mean([of == RIGHT for of in found]) > 0.5


def test_a_settled_policy_makes_room_for_a_fresh_one_while_the_budget_lasts(monkeypatch):
    recipes = []
    for rounds in (1, 20):
        monkeypatch.setattr(ppo_tuned, "ROUNDS", rounds)
        study = searched("ppo_tuned", budget=60)
        recipes.append({trial.recipe for trial in study.trials})
    assert recipes[0] < recipes[1]


def test_a_baseline_is_the_mean_of_the_others():
    scores = np.array([1.0, 4.0, 10.0])
    np.testing.assert_allclose(leave_one_out(scores), [1 - 7, 4 - 5.5, 10 - 2.5])
    np.testing.assert_allclose(softmax(np.log([[1.0, 3.0]])), [[0.25, 0.75]])


def test_steps_of_an_episode_share_its_advantage_and_begin_at_the_best_start():
    agent, scorer = agents.make("ppo_tuned", batch=64, bias=0.8), Landscape(score)
    study = Study(walk(), scorer, 100 * scorer.whole_cost())
    env = ModelMergeEnv(study.space.candidates, scorer, observe_cursor=True, stacking=False)
    model = agent._model(env, study)
    agent._begin_at(2, model)
    envs = ModelMergeVectorEnv(env, 64, "Disabled")
    envs.reset(seed=0)
    play(model, envs)
    buffer = model.rollout_buffer
    assert buffer.full
    assert buffer.advantages.shape == (4, 64)
    assert (buffer.advantages == buffer.advantages[0]).all()
    rewards = buffer.rewards[-1]
    assert not buffer.rewards[:-1].any()
    expected = leave_one_out(rewards) / leave_one_out(rewards).std()
    np.testing.assert_allclose(buffer.advantages[0], np.clip(expected, -2.5, 2.5), atol=1e-5)
    assert np.mean(buffer.actions == 2) == pytest.approx(0.8, abs=0.08)
    before = [value.clone() for value in model.policy.parameters()]
    model.train()
    moved = [bool((a != b).any()) for a, b in zip(before, model.policy.parameters(), strict=True)]
    assert any(moved)
    assert not torch.isnan(
        torch.cat([value.flatten() for value in model.policy.parameters()])
    ).any()


@pytest.mark.parametrize("name", NAMES)
def test_what_it_cannot_search_is_refused(name, make_study):
    with pytest.raises(ValueError, match=rf"{name} chooses a source .* not"):
        agents.make(name).search(make_study(12, space="layerwise"))
    with pytest.raises(ValueError, match="more than one full evaluation"):
        searched(name, budget=1)
