"""scores.jsonl: nothing is scored twice, and what is kept are the values themselves."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from merge_gym import Outcome, Request, Scorer
from merge_gym.evaluation.journal import Journal, _read, _written


@pytest.fixture
def file(tmp_path):
    return tmp_path / "scores.jsonl"


@pytest.fixture
def recipes(bank):
    return [bank.uniform(source) for source in bank.candidates.sources]


class Uneven(Scorer):
    """Values that are no 0 and 1, some of them hard to write down."""

    tasks, subset_count = ("perplexity",), 2
    values = np.array([0.1, 1e-38, np.float32(1) / 3, 1.0, -0.0, np.nan], np.float32)

    def evaluate(self, requests):
        return [self.outcome(request) for request in requests]

    def outcome(self, request):
        subset = request.subsets
        rows = slice(None) if subset is None else slice(subset[0], None, 2)
        return Outcome({"perplexity": self.values[rows]}, self.cost(request))

    def cost(self, request):
        return 6 if request.subsets is None else 3 * len(request.subsets)


def test_a_score_is_computed_once_for_each_recipe_task_split_and_subset(file, recipes, counting):
    with Journal(counting, file) as journal:
        for _ in range(2):
            for place in (("search", None), ("search", 1), ("search", 2), ("test", None)):
                journal.score(recipes, *place)
    assert counting.asked == len(set(counting.requests)) == 4 * len(recipes) * len(counting.tasks)


def test_only_what_is_missing_is_asked_and_once(file, recipes, counting):
    recipe = recipes[0]
    with Journal(counting, file) as journal:
        journal.evaluate([Request(recipe, subsets=(1,), tasks=("low",))])
        counting.requests.clear()
        journal.evaluate([Request(recipe, subsets=2)] * 2)
        assert counting.requests == [
            Request(recipe, subsets=(0,), tasks=("low",)),
            Request(recipe, subsets=(0,), tasks=("high",)),
            Request(recipe, subsets=(1,), tasks=("high",)),
        ]
        counting.requests.clear()
        journal.evaluate([])
        assert counting.asked == 0


def test_outcomes_are_the_scorers_own(file, recipes, evaluator):
    requests = [
        Request(recipes[0]),
        Request(recipes[1], subsets=3),
        Request(recipes[2], subsets=(4, 1), tasks=("high",)),
        Request(recipes[3], subsets=evaluator.subset_count),
        Request(recipes[4], "test", tasks=("low",)),
    ]
    for _ in range(2):
        with Journal(evaluator, file) as journal:
            outcomes = zip(journal.evaluate(requests), evaluator.evaluate(requests), strict=True)
            for kept, direct in outcomes:
                assert kept.values.keys() == direct.values.keys()
                for task, values in direct.values.items():
                    np.testing.assert_array_equal(kept.values[task], values)
                    assert kept.values[task].dtype == np.float32
                assert (kept.scores, kept.cost) == (direct.scores, direct.cost)


def test_scores_read_back_are_the_same_bits_and_cost_no_evaluation(file, recipes, counting):
    with Journal(counting, file) as journal:
        computed = [journal.values(recipe, subset=3) for recipe in recipes]
    asked = counting.asked
    with Journal(counting, file) as journal:
        for recipe, before in zip(recipes, computed, strict=True):
            for task, values in journal.values(recipe, subset=3).items():
                assert values.tobytes() == before[task].tobytes()
    assert counting.asked == asked


def test_values_that_are_no_0_and_1_survive_to_the_bit(file, recipes):
    for _ in range(2):
        with Journal(Uneven(), file) as journal:
            values = journal.values(recipes[0])["perplexity"]
            assert values.tobytes() == Uneven.values.tobytes()


@given(
    arrays.arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([0.0, 1.0]))
    | arrays.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32))
)
def test_any_values_survive_being_written(values):
    read = _read(json.loads(json.dumps(_written(values))))
    np.testing.assert_array_equal(read, values)
    assert read.dtype == np.float32


def test_a_bit_is_kept_for_each_example_that_is_right_or_wrong():
    assert len(_written(np.ones(8000, np.float32))["bits"]) < 1400


def test_cost_is_that_of_the_evaluation(file, recipes, counting, evaluator):
    request = Request(recipes[0], subsets=(1,))
    with Journal(counting, file) as journal:
        assert journal.cost(request) == evaluator.cost(request)
        assert journal.whole_cost("test") == evaluator.whole_cost("test")


def test_a_torn_line_is_scored_again(file, recipes, counting):
    with Journal(counting, file) as journal:
        computed = journal.score(recipes)
    file.write_bytes(file.read_bytes()[:-5])
    asked = counting.asked
    for _ in range(2):
        with Journal(counting, file) as journal:
            assert journal.score(recipes) == computed
    assert counting.asked == asked + 1


@pytest.mark.parametrize(
    "damaged",
    [
        lambda line: b"\x00" * len(line),
        lambda line: line[: len(line) // 2],
        lambda line: line[:20] + b"\r" + line[21:],
        lambda line: b"3",
        lambda line: b"{}",
        lambda line: line.replace(b'"bits": "', b'"bits": "A'),
        lambda line: line.replace(b'"count": 60', b'"count": 90'),
        lambda line: line.replace(b'"subset": null', b'"subset": []'),
        lambda line: line.replace(b'"segments"', b'"segment"'),
    ],
)
def test_a_damaged_line_is_left_out_and_scored_again(file, recipes, counting, damaged, caplog):
    with Journal(counting, file) as journal:
        computed = journal.score(recipes)
    lines = file.read_bytes().split(b"\n")
    lines[2] = damaged(lines[2])
    file.write_bytes(b"\n".join(lines))
    asked = counting.asked
    with caplog.at_level(logging.WARNING), Journal(counting, file) as journal:
        assert journal.score(recipes) == computed
    assert counting.asked == asked + 1
    assert "damaged and left out" in caplog.text


def test_a_file_kept_with_another_number_of_subsets_is_refused(file, recipes, bank, evaluator):
    with Journal(evaluator, file) as journal:
        journal.score(recipes[0], subset=1)
    with pytest.raises(ValueError, match="another number of subsets"):
        Journal(type(evaluator)(bank, subsets=5), file)


def test_a_request_that_cannot_be_scored_asks_for_nothing(file, recipes, counting):
    with Journal(counting, file) as journal:
        for request in (Request(recipes[0], subsets=(6,)), Request(recipes[0], tasks=("none",))):
            with pytest.raises(ValueError, match=r"from 0 to 5|unknown task"):
                journal.evaluate([Request(recipes[1]), request])
    assert counting.asked == 0


def test_changing_an_answer_does_not_change_the_journal(file, recipes, counting):
    with Journal(counting, file) as journal:
        journal.values(recipes[0])["low"][:] = 2
        assert journal.score(recipes[0])["low"] <= 1
