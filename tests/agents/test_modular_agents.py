"""Searches of libraries: what they pay, that they go on after being killed, fronts by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

import agents
from merge_gym import Evaluator, LayerBank, Library, Request, Study, Suite, spaces
from merge_gym.spaces.modular import Modular
from merge_gym.spaces.walk import Walk
from merge_gym.studies.front import Point, area, hypervolume, pareto, within
from tests.searching import CountingScorer


@pytest.fixture(scope="module")
def modular_bank(suite: Suite) -> LayerBank:
    return LayerBank(suite, ["average"], shared="average")


@pytest.fixture(scope="module")
def scorer(modular_bank: LayerBank) -> Evaluator:
    return Evaluator(modular_bank, subsets=4)


@pytest.fixture
def space(modular_bank: LayerBank) -> Modular:
    made = spaces.make("modular", modular_bank.candidates)
    assert isinstance(made, Modular)
    return made


def test_a_change_of_one_chain_is_scored_and_paid_on_one_task(
    space: Modular, scorer: Evaluator, tmp_path: Path
) -> None:
    counting = CountingScorer(scorer)
    starts = space.starts()
    apart, merged = (space.recipe(starts[name]) for name in ("experts", "average"))
    mixed = Library.of({"low": apart.recipe("low"), "high": merged.recipe("high")})
    with Study(space, counting, None, 0, tmp_path) as study:
        study.evaluate(starts["experts"])
        [trial] = study.score([Request(mixed)])
        assert trial.charged == scorer.cost(Request(mixed, tasks=("high",))) < study.full_cost
        assert counting.requests[-1].tasks == ("high",)
        assert trial.scores == scorer.score(mixed)
        half = {f"{name}:groups": "01" for name in space.places}
        assert study.evaluate(starts["average"] | half).charged == 0  # experts, spelt otherwise


def test_another_norm_leaves_the_prefixes(space: Modular, scorer: Evaluator) -> None:
    decisions = space.starts()["average"]
    scorer.score(space.recipe(decisions))
    before = scorer.counts.full
    scorer.score(space.recipe(decisions | {"shared/norm:groups": "01"}))
    assert scorer.counts.full == before


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("backward_greedy", {}),
        ("backward_greedy", {"residual": "sign"}),
        ("kept_ends", {"end": "last"}),
        ("likeness", {}),
        ("nsga2", {"population": 6}),
    ],
)
def test_a_search_keeps_its_budget_and_goes_on_as_if_it_had_not_stopped(
    space: Modular, scorer: Evaluator, tmp_path: Path, name: str, settings: dict
) -> None:
    if name == "nsga2":
        pytest.importorskip("pymoo")
    budget = 15 * scorer.whole_cost()
    with Study(space, scorer, budget, 0, tmp_path / "whole") as study:
        agents.make(name, **settings).search(study)
        assert len(study.trials) > 2
        assert study.spent <= budget
    folder = tmp_path / "cut"
    folder.mkdir()
    for file in ("scores.jsonl", "study.json"):
        text = (tmp_path / "whole" / file).read_bytes()
        (folder / file).write_bytes(text[: len(text) // 2] if file.endswith("l") else text)
    with Study(space, scorer, budget, 0, folder, resume=True) as study:
        agents.make(name, **settings).search(study)
    whole, again = (tmp_path / where / "trials.jsonl" for where in ("whole", "cut"))
    assert again.read_text() == whole.read_text()


def test_other_spaces_are_refused(modular_bank: LayerBank, scorer: Evaluator) -> None:
    with pytest.raises(ValueError, match="searches the modular space, not Walk"):
        agents.make("backward_greedy").search(Study(Walk(modular_bank.candidates), scorer))


def test_fronts_and_areas_by_hand() -> None:
    points = [Point(1, 0.5), Point(1.5, 0.8), Point(1.6, 0.7), Point(2, 0.9)]
    assert [of.storage for of in pareto(points)] == [1, 1.5, 2]
    assert hypervolume(points, 2, 0.5) == pytest.approx(0.5 * 0.3)
    assert area(points, 0.5, 0.9, 2) == pytest.approx(0.15 / 0.4)
    assert within(points, 1.6).storage == 1.5
    with pytest.raises(ValueError, match=r"at most 0\.5 models: the smallest takes 1"):
        within(points, 0.5)
