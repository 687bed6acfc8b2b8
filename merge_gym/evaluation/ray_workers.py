"""Workers of a `ClusterScorer` that are actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from types import ModuleType
from typing import Any

import merge_gym
from merge_gym.evaluation.model_scorer import ModelScorer
from merge_gym.evaluation.scorer import Outcome, Request

Identity = tuple[str, str]
"""The version of this package and the digest of the suite: equal ones give equal scores."""


def identity(scorer: ModelScorer) -> Identity:
    """Of the scorer's package and suite, in the process that asks."""
    return merge_gym.__version__, scorer.bank.suite.digest


class Actor:
    """What runs on the cluster: an engine of its own, opened there."""

    def __init__(self, make: Callable[[], ModelScorer]) -> None:
        self.scorer = make()

    def identity(self) -> Identity:
        return identity(self.scorer)

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        return self.scorer.evaluate(requests)


class RayWorkers:
    """Actors of a Ray cluster, one CPU each, that open the suite for themselves.

    Args:
        make: opens a worker's scorer; the files that it names are found under the same paths on
            every node.
        expected: version and suite digest that a worker must have.
        workers: how many.
        address: of the cluster: `auto` for the one that this node belongs to, `host:port`, or
            `local` for one that is started here and ends with the program.

    Raises:
        ConnectionError: there is no cluster at that address.
        ValueError: Ray is not installed; fewer CPUs than workers; a worker of another version or
            suite.
    """

    def __init__(
        self,
        make: Callable[[], ModelScorer],
        expected: Identity,
        workers: int,
        address: str = "auto",
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers is a whole number of at least 1, got {workers!r}")
        self.ray = _connected(address, workers)
        cpus = int(self.ray.cluster_resources().get("CPU", 0))
        if cpus < workers:
            raise ValueError(f"the cluster has {cpus} CPUs, a worker takes one, got {workers=}")
        actor: Any = self.ray.remote(num_cpus=1)(Actor)
        self.actors = [actor.remote(make) for _ in range(workers)]
        for number, found in enumerate(self.ray.get([of.identity.remote() for of in self.actors])):
            check_identity(number, found, expected)

    def __len__(self) -> int:
        return len(self.actors)

    def send(self, worker: int, requests: Sequence[Request]) -> Hashable:
        return self.actors[worker].evaluate.remote(list(requests))

    def first(self, tickets: Collection[Hashable]) -> tuple[Hashable, list[Outcome] | None]:
        (ticket,), _ = self.ray.wait(list(tickets), num_returns=1)
        try:
            return ticket, self.ray.get(ticket)
        except self.ray.exceptions.RayActorError:
            return ticket, None


def check_identity(worker: int, found: Identity, expected: Identity) -> None:
    """ValueError unless a worker has the version and the suite that are expected."""
    for what, its, ours in zip(("version", "suite digest"), found, expected, strict=True):
        if its != ours:
            raise ValueError(
                f"worker {worker} has {what} {its}, here it is {ours}: its scores would be others; "
                f"install the same package and copy the same suite to every node"
            )


def _connected(address: str, workers: int) -> ModuleType:
    try:
        import ray
    except ImportError:
        raise ValueError(
            "scorer=ray needs Ray, which is not installed: pip install 'merge-gym[ray]'"
        ) from None
    if not ray.is_initialized():
        here = {"num_cpus": workers} if address == "local" else {}
        try:
            ray.init(address, include_dashboard=False, log_to_driver=False, **here)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConnectionError(
                f"no Ray cluster answers at address={address!r} ({str(error).splitlines()[0]}): "
                f"start one with `ray start --head`, or take scorer.address=local"
            ) from None
    return ray
