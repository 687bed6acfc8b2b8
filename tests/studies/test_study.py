"""A study's folder, its trials, and what it refuses."""

from __future__ import annotations

import json
import multiprocessing
import time

import pytest

from merge_gym import Evaluator, spaces
from merge_gym.files import read_lines
from merge_gym.studies.study import BudgetSpent, Study

WHOLE = 2 * 60  # two tasks of 60 examples


@pytest.fixture
def make(bank, counting):
    def make(directory=None, budget=None, space="walk", **settings):
        of = spaces.make(space, bank.candidates)
        return Study(of, counting, budget, directory=directory, **settings)

    return make


@pytest.fixture
def begun(make, tmp_path):
    """The folder of a study with two trials, closed."""
    with make(tmp_path) as study:
        study.begin({"name": "mine", "step": 0.5, "words": ["a", "b"]})
        for start in list(study.space.starts().values())[:2]:
            study.evaluate(start)
    return tmp_path


AGENT = {"name": "mine", "step": 0.5, "words": ["a", "b"]}


def _first(study):
    return next(iter(study.space.starts().values()))


def test_a_folder_that_holds_a_study_is_refused_unless_it_is_resumed(make, begun):
    with pytest.raises(ValueError, match="holds a study already: continue it with resume"):
        make(begun)
    with make(begun, resume=True) as study:
        study.begin(AGENT)


@pytest.mark.parametrize(
    ("settings", "agent", "difference"),
    [
        ({"seed": 1}, AGENT, r"seed was 0, is 1"),
        ({}, AGENT | {"step": 0.6}, r"agent\.step was 0\.5, is 0\.6"),
        ({}, AGENT | {"more": 1}, r"agent\.more was None, is 1"),
        ({}, AGENT | {"words": ["a"]}, r"agent\.words was \['a', 'b'\], is \['a'\]"),
        ({}, {"name": "yours"}, r"agent\.name was 'mine', is 'yours'"),
        ({"space": "layerwise"}, AGENT, r"space\.space was 'Walk', is 'Layerwise'"),
    ],
)
def test_a_study_that_was_begun_otherwise_is_refused_by_what_differs_and_left_as_it_is(
    make, begun, settings, agent, difference
):
    before = {file.name: file.read_bytes() for file in begun.iterdir()}
    with (
        make(begun, resume=True, **settings) as study,
        pytest.raises(ValueError, match=f"was begun otherwise .*{difference}"),
    ):
        study.begin(agent)
    assert {file.name: file.read_bytes() for file in begun.iterdir()} == before


def test_other_subsets_are_another_study(bank, begun):
    space = spaces.make("walk", bank.candidates)
    with (
        pytest.raises(ValueError, match=r"begun otherwise.*subsets was 6, is 3"),
        Study(space, Evaluator(bank, subsets=3), None, 0, begun, resume=True) as study,
    ):
        study.begin(AGENT)


def test_a_folder_whose_scores_are_of_other_subsets_is_refused_and_free_again(bank, make, tmp_path):
    with make(tmp_path) as study:
        study.begin(AGENT)
        study.evaluate(_first(study), (0,))
    space = spaces.make("walk", bank.candidates)
    for _ in range(2):  # not "in use" the second time
        with pytest.raises(ValueError, match="another number of subsets"):
            Study(space, Evaluator(bank, subsets=3), None, 0, tmp_path, resume=True)
    assert len(read_lines(tmp_path / "trials.jsonl")) == 1


def test_a_folder_is_one_studys_at_a_time(make, begun):
    with (
        make(begun, resume=True),
        pytest.raises(ValueError, match="in use by another process"),
    ):
        make(begun, resume=True)
    make(begun, resume=True).close()


def test_another_process_is_refused_until_the_first_is_killed(make, tmp_path):
    def hold():
        with make(tmp_path):
            (tmp_path / "held").touch()
            time.sleep(60)

    process = multiprocessing.get_context("fork").Process(target=hold)
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(ValueError, match="in use by another process"):
        make(tmp_path)
    process.kill()
    process.join()
    make(tmp_path).close()


def test_trials_are_on_disk_when_they_end_and_spell_what_was_decided(make, tmp_path):
    with make(tmp_path) as study:
        start = _first(study)
        study.evaluate(start, 2)
        [line] = read_lines(tmp_path / "trials.jsonl")
        assert line == study.trials[0].to_dict()
        assert (line["decisions"], line["subsets"], line["number"]) == (start, [0, 1], 0)
        outcome = study.scorer.score(study.trials[0].recipe)
        assert outcome == study.trials[1].scores
        assert read_lines(tmp_path / "trials.jsonl")[1]["recipe"]


def test_a_resumed_study_pays_as_the_first_did_and_computes_nothing(make, begun, counting):
    asked = counting.asked
    with make(begun, resume=True) as study:
        study.begin(AGENT)
        trials = study.evaluate_all(list(study.space.starts().values())[:2])
    assert [trial.charged for trial in trials] == [WHOLE, WHOLE]
    assert counting.asked == asked
    assert len(read_lines(begun / "trials.jsonl")) == 2


def test_reports_see_the_test_split_and_are_not_charged(make, tmp_path, counting):
    with make(tmp_path, budget=WHOLE) as study:
        recipe = study.evaluate(_first(study)).recipe
        first = study.reporter.score(recipe, "test")
        assert study.spent == WHOLE
        assert len(study.trials) == 1
    asked = counting.asked
    with make(tmp_path, resume=True) as study:
        assert study.reporter.score(recipe, "test") == first
    assert counting.asked == asked


def test_a_search_does_not_see_the_test_split(make):
    study = make()
    recipe = study.evaluate(_first(study)).recipe
    with pytest.raises(ValueError, match="search split only, not 'test'"):
        study.scorer.score(recipe, "test")


def test_what_is_kept_back_is_there_afterwards(make):
    study = make(budget=2 * WHOLE)
    first, second, third, *_ = study.space.starts().values()
    with study.keeping_back(WHOLE):
        study.evaluate(first)
        with pytest.raises(BudgetSpent):
            study.evaluate(second, (0,))
    study.evaluate(second)
    with pytest.raises(BudgetSpent, match="240 of 240 examples are spent, the next score needs 20"):
        study.evaluate(third, (0,))
    assert study.spent == 2 * WHOLE


def test_the_best_is_of_those_scored_whole_and_the_first_of_equals(make):
    study = make()
    with pytest.raises(ValueError, match=r"none of 0 trials .*one full score costs 120 examples"):
        study.best()
    starts = list(study.space.starts().values())
    study.evaluate(starts[0], 1)
    with pytest.raises(ValueError, match="none of 1 trials"):
        study.best()
    trials = study.evaluate_all(starts)
    best = max(trials, key=lambda trial: trial.mean)
    study.evaluate(best.decisions, 6)  # all subsets, by number
    assert study.best() is best


def test_listeners_hear_every_trial_once(make):
    study, heard = make(), []
    study.listeners.append(heard.append)
    study.evaluate_all(list(study.space.starts().values()))
    assert heard == study.trials
    assert [trial.number for trial in heard] == list(range(5))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers.0": "loww"}, r"layers\.0 is .*'low'"),
        ({"layers.9": "low"}, r"unknown decision 'layers\.9'"),
        (None, r"decisions lack layers\.0, layers\.1, layers\.2"),
    ],
)
def test_decisions_that_are_none_are_refused_and_cost_nothing(make, changed, message):
    study = make()
    with pytest.raises(ValueError, match=message):
        study.evaluate({} if changed is None else _first(study) | changed)
    assert (study.spent, study.trials) == (0, [])


@pytest.mark.parametrize("seed", [-1, 1.0, "0", True, None])
def test_a_seed_that_is_none_is_refused(make, seed):
    with pytest.raises(ValueError, match=f"whole number of at least 0, got {seed!r}"):
        make(seed=seed)


def test_what_a_study_is_stands_in_its_folder(begun):
    described = json.loads((begun / "study.json").read_text())
    assert described["agent"] == AGENT
    assert (described["seed"], described["subsets"]) == (0, 6)
    assert list(described["space"]["decisions"]) == ["layers.0", "layers.1", "layers.2"]
