"""What agents that play episodes are charged, and what they score again at the end."""

from __future__ import annotations

import pytest

import agents
from agents.episodes import read_episodes
from experiments.tabulate import tabulate
from merge_gym.evaluation.table import load_table
from merge_gym.spaces.walk import Walk
from merge_gym.studies.selection import rank
from merge_gym.studies.study import Study
from tests.agents.conftest import quick


def _on_subsets(study):
    return [trial for trial in study.trials if trial.subsets is not None]


def _whole(study):
    return [trial for trial in study.trials if trial.subsets is None]


def test_every_scored_episode_is_a_trial_and_charged(make_study, tmp_path):
    with make_study(directory=tmp_path) as study:
        quick("random", 20).search(study)
    episodes = read_episodes(tmp_path / "episodes.jsonl")
    assert [episode.index for episode in episodes] == list(range(20))
    scored = [episode for episode in episodes if episode.scores]
    played = _on_subsets(study)
    assert [(one.recipe, (one.subset,)) for one in scored] == [
        (trial.recipe, trial.subsets) for trial in played
    ]
    assert [one.scores for one in scored] == [trial.scores for trial in played]


def test_the_most_promising_recipes_are_scored_again_on_the_whole_split_and_charged(make_study):
    study = make_study()
    quick("random", 30, top=5).search(study)
    played, again = _on_subsets(study), _whole(study)
    assert [one.recipe for one in again] == [one.recipe for one in rank(played)[:5]]
    assert all(0 < trial.charged < study.full_cost for trial in again)  # a subset was paid before
    assert study.spent == sum(trial.charged for trial in [*played, *again])
    assert study.best() == max(again, key=lambda trial: trial.mean)


def test_their_cost_is_kept_back_from_the_episodes(make_study):
    study = make_study(6)
    quick("random", 10_000, top=4).search(study)
    assert len(_whole(study)) == 4
    paid = sum(trial.charged for trial in _on_subsets(study))
    assert 1.75 * study.full_cost <= paid <= 2 * study.full_cost
    assert study.spent <= study.budget


def test_the_policys_greedy_recipe_is_scored_too(make_study):
    study, agent = make_study(), quick("ppo", 12)
    agent.search(study)
    greedy = agent.greedy_recipe(agent.make_environment(study))
    assert greedy is None or greedy in [trial.recipe for trial in _whole(study)]
    assert len(_whole(study)) >= 2


def test_a_top_that_the_budget_cannot_pay_for_is_refused(make_study):
    with pytest.raises(ValueError, match=r"4 recipes .* cost 480 examples, more than .* 480"):
        quick("random", top=4).search(make_study(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, "max_steps is a whole number"),
        ({"observe_curser": True}, "observe_curser"),
        ({"reward": {"name": "dynamic_averag"}}, "Did you mean 'dynamic_average'"),
        ({"reward": {"name": "plain", "scale": 1}}, "scale"),
        ({"reward": {"name": "dynamic_average", "scale": 2}}, r"in \[0, 1\], got 2"),
    ],
)
def test_environment_settings_are_refused_before_anything_is_scored(make_study, settings, message):
    study = make_study()
    with pytest.raises(ValueError, match=message):
        agents.make("random", environment=settings).search(study)
    assert not study.trials


def test_random_takes_allowed_actions_only(make_study):
    agent = quick("random", 40, environment={"max_steps": 1000})
    agent.search(make_study())
    assert len(agent.played) == 40
    assert all(one.recipe for one in agent.played)  # only a forbidden step back spoils one here


def test_a_search_that_built_no_model_says_so(make_study):
    agent = quick("random", 3, environment={"max_steps": 1})
    with pytest.raises(ValueError, match="no episode built a model"):
        agent.search(make_study())


def test_a_table_stands_in_for_the_model(bank, tmp_path):
    tabulate(bank, tmp_path / "table.safetensors")
    table = load_table(tmp_path / "table.safetensors", subsets=4)
    study = Study(Walk(table.candidates), table, 10 * table.whole_cost())
    agent = quick("maskable_ppo", 20)
    agent.search(study)
    assert all(one.recipe for one in agent.played)  # no step back: a table knows no stacked layers
    assert table.rank(study.best().recipe) > 0
