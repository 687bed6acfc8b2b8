"""Requests dealt to workers: the same outcomes as one scorer, whoever is lost."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import numpy as np
import pytest

from merge_gym import Outcome, Request, Scorer, Table
from merge_gym.evaluation.cluster import ClusterScorer, deal
from merge_gym.evaluation.ray_workers import check_identity
from tests.envs.random_tables import random_table


class InTurn:
    """Workers in this process, that work when they are asked for; some are lost at their n-th."""

    def __init__(self, scorer: Scorer, count: int, lost_at: dict[int, int] | None = None) -> None:
        self.scorer, self.count, self.lost_at = scorer, count, lost_at or {}
        self.sent: list[tuple[int, Sequence[Request]]] = []
        self.delivered: list[Request] = []

    def __len__(self) -> int:
        return self.count

    def send(self, worker: int, requests: Sequence[Request]) -> Hashable:
        self.sent.append((worker, requests))
        return len(self.sent) - 1

    def first(self, tickets: Collection[Hashable]) -> tuple[Hashable, list[Outcome] | None]:
        ticket = min(tickets)
        worker, requests = self.sent[ticket]
        turn = sum(worker == of for of, _ in self.sent[: ticket + 1])
        if turn >= self.lost_at.get(worker, 10**9):
            return ticket, None
        self.delivered += requests
        return ticket, self.scorer.evaluate(requests)


@pytest.fixture(scope="module")
def table() -> Table:
    return random_table()


@pytest.fixture(scope="module")
def requests(table: Table) -> list[Request]:
    generator = np.random.default_rng(0)
    choices = generator.integers(0, 3, (60, 3))
    recipes = [table.candidates.recipe(enumerate(map(int, each))) for each in choices]
    return [Request(recipe, subsets=(number % 5,)) for number, recipe in enumerate(recipes)]


def same(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.cost == other.cost
        for task in other.values:
            np.testing.assert_array_equal(one.values[task], other.values[task])


@pytest.mark.parametrize("lost_at", [{}, {1: 1}, {0: 2, 2: 1}])
def test_every_request_is_scored_once_in_its_place_whoever_is_lost(table, requests, lost_at):
    workers = InTurn(table, 3, lost_at)
    scorer = ClusterScorer(table, workers)
    same(scorer.evaluate(requests), table.evaluate(requests))
    assert sorted(map(id, workers.delivered)) == sorted(map(id, requests))
    before = len(workers.sent)
    same(scorer.evaluate(requests[:5]), table.evaluate(requests[:5]))
    assert not {worker for worker, _ in workers.sent[before:]} & set(lost_at)


def test_the_last_worker_lost_is_an_error_that_says_so(table, requests):
    scorer = ClusterScorer(table, InTurn(table, 2, {0: 1, 1: 2}))
    for _ in range(2):
        with pytest.raises(ConnectionError, match="all workers of the cluster are lost"):
            scorer.evaluate(requests)


def test_common_prefixes_go_to_one_worker_and_costs_are_even(table, requests):
    costs = [table.cost(request) for request in requests]
    shares = {
        worker: [place for piece in pieces for place in piece]
        for worker, pieces in deal(requests, costs, [0, 1]).items()
    }
    bottoms = [
        {requests[place].recipe.segments[0][1][0] for place in share} for share in shares.values()
    ]
    assert len(bottoms[0] & bottoms[1]) <= 1  # only where the cut falls
    spent = [sum(costs[place] for place in share) for share in shares.values()]
    assert abs(spent[0] - spent[1]) <= 2 * max(costs)
    assert not ClusterScorer(table, InTurn(table, 1)).evaluate([])


def test_a_bad_request_is_refused_before_anything_is_sent(table, requests):
    workers = InTurn(table, 2)
    with pytest.raises(ValueError, match="a subset is a number from 0 to 4"):
        ClusterScorer(table, workers).evaluate(
            [*requests, Request(requests[0].recipe, subsets=(9,))]
        )
    assert not workers.sent


@pytest.mark.parametrize(
    ("found", "what"), [(("0.2", "a"), "version"), (("0.1", "b"), "suite digest")]
)
def test_a_worker_of_another_kind_is_refused(found, what):
    check_identity(1, ("0.1", "a"), ("0.1", "a"))
    with pytest.raises(ValueError, match=f"worker 1 has {what}"):
        check_identity(1, found, ("0.1", "a"))
