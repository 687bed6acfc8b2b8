"""Requests dealt to workers that score them at once; those of a lost worker go to the others."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Hashable, Sequence
from itertools import accumulate
from typing import Protocol

from merge_gym.evaluation.scorer import Outcome, Request, Scorer

PIECES = 4
"""Into how many pieces a worker's share is cut: what an idle worker takes from a busy one, and the
most that is scored again when one is lost."""

Places = list[int]
"""Which requests of a batch, by number."""


class Workers(Protocol):
    """What scores elsewhere: engines on the same suite, by number."""

    def __len__(self) -> int: ...

    def send(self, worker: int, requests: Sequence[Request]) -> Hashable:
        """Let a worker begin; returns a ticket."""

    def first(self, tickets: Collection[Hashable]) -> tuple[Hashable, list[Outcome] | None]:
        """Wait for the first of what was sent: its ticket and what it gave; None where its worker
        was lost."""


class ClusterScorer(Scorer):
    """Scores on several workers what one would score, to the bit.

    The requests of one call are sorted by their recipes, so that common prefixes lie side by side,
    and dealt in stretches of equal cost. A worker that is done takes over from the one with the
    most left. A request is never cut: a single one is scored by a single worker.

    Args:
        own: a scorer of the same suite here; it answers what costs what, and refuses bad requests.
        workers: where the scoring is done.

    Raises ConnectionError when the last worker is lost.
    """

    def __init__(self, own: Scorer, workers: Workers) -> None:
        self.own, self.workers = own, workers
        self.tasks, self.subset_count = own.tasks, own.subset_count
        self._alive = set(range(len(workers)))

    def cost(self, request: Request) -> int:
        return self.own.cost(request)

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        costs = [self.cost(request) for request in requests]
        left = deal(requests, costs, sorted(self._alive))
        pending: dict[Hashable, tuple[int, Places]] = {}
        outcomes: dict[int, Outcome] = {}
        while len(outcomes) < len(requests):
            self._send(requests, left, pending)
            ticket, given = self.workers.first(pending)
            worker, places = pending.pop(ticket)
            if given is None:
                self._alive.discard(worker)
                left[worker].appendleft(places)
            else:
                outcomes.update(zip(places, given, strict=True))
        return [outcomes[place] for place in range(len(requests))]

    def _send(
        self,
        requests: Sequence[Request],
        left: dict[int, deque[Places]],
        pending: dict[Hashable, tuple[int, Places]],
    ) -> None:
        """Give each idle worker its next piece, or the last one of whoever has the most left."""
        if not self._alive:
            raise ConnectionError(
                "all workers of the cluster are lost; what a run has scored is in its folder: "
                "resume it where there are workers"
            )
        for worker in sorted(self._alive - {busy for busy, _ in pending.values()}):
            longest = max(left, key=lambda of: len(left[of]))
            pieces = left[worker] or left[longest]
            if pieces:
                places = pieces.popleft() if pieces is left[worker] else pieces.pop()
                ticket = self.workers.send(worker, [requests[place] for place in places])
                pending[ticket] = worker, places


def deal(
    requests: Sequence[Request], costs: Sequence[int], workers: Sequence[int]
) -> dict[int, deque[Places]]:
    """{worker: pieces of its stretch of the sorted requests}, the stretches of about equal cost."""
    if not workers:
        return {}
    order = sorted(range(len(requests)), key=lambda place: _in_order(requests[place]))
    pieces: list[Places] = [[] for _ in range(PIECES * len(workers))]
    before = accumulate((costs[place] for place in order), initial=0)
    share = max(1, sum(costs)) / len(pieces)
    for place, cost in zip(order, before, strict=False):
        pieces[min(int(cost / share), len(pieces) - 1)].append(place)
    return {
        worker: deque(filter(None, pieces[PIECES * at : PIECES * (at + 1)]))
        for at, worker in enumerate(workers)
    }


def _in_order(request: Request) -> str:
    """Requests in the order of their recipes' layers, bottom up."""
    return json.dumps(request.recipe.to_dict())
