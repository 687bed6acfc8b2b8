"""Stable-Baselines3's algorithms in `ModelEdit-v0`, on a landscape."""

import numpy as np
import pytest

import agents
from merge_gym.evaluation.scorer import Request
from merge_gym.studies.study import Study
from tests.agents.landscapes import Landscape, walk
from tests.agents.test_batches import score
from tests.searching import QUICK

NAMES = ("edit_ppo", "edit_recurrent_ppo", "edit_dqn", "edit_qrdqn")


def searched(name, budget, **settings):
    scorer = Landscape(score)
    study = Study(walk(), scorer, round(budget * scorer.whole_cost()), seed=0)
    agents.make(name, **(QUICK[name] | settings)).search(study)
    return study


@pytest.mark.parametrize("name", NAMES)
def test_it_improves_the_best_uniform_merge_within_its_budget(name):
    study = searched(name, 30)
    uniform = max(
        study.reporter.evaluate([Request(study.space.recipe(start))])[0].mean
        for start in study.space.starts().values()
    )
    assert study.best().mean > uniform
    assert study.spent <= study.budget


def test_what_earlier_episodes_scored_is_not_charged_again():
    study = searched("edit_ppo", 1000, steps=200, episode=4.0)
    free = [trial for trial in study.trials if not trial.charged and trial.subsets is not None]
    assert len(free) > 50
    assert study.spent == 7 * len({(t.recipe, s) for t in study.trials for s in subsets(t)})


def subsets(trial):
    return range(10) if trial.subsets is None else trial.subsets


def test_a_layer_is_stacked_where_the_scorer_knows_such_recipes():
    study = searched("edit_ppo", 60, steps=150)
    depths = [len(trial.recipe.segments[0][1]) for trial in study.trials]
    assert max(depths) > 4
    assert np.isfinite([trial.mean for trial in study.trials]).all()


def test_what_it_cannot_search_is_refused(make_study):
    with pytest.raises(ValueError, match="chooses a source for each layer"):
        agents.make("edit_ppo").search(make_study(12, space="layerwise"))
    with pytest.raises(ValueError, match="at least one full evaluation"):
        searched("edit_dqn", 0.5)
