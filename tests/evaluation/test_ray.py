"""A real Ray cluster on this machine: `make cluster`, or wherever Ray is installed."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from merge_gym import Request
from merge_gym.evaluation.cluster import ClusterScorer
from merge_gym.evaluation.opening import open_engine

ray = pytest.importorskip("ray", reason="Ray is not installed")

from merge_gym.evaluation.ray_workers import RayWorkers, identity  # noqa: E402


def pid(actor) -> int:
    return ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))


def test_two_actors_one_killed_in_the_middle_score_as_one_process(suite_file: Path) -> None:
    make = partial(open_engine, str(suite_file), subsets=6)
    own = make()
    layers, count = next(iter(own.bank.candidates.segments.values())), len(own.bank.candidates)
    choices = np.random.default_rng(0).integers(0, count, (400, layers))
    recipes = [own.bank.candidates.recipe(enumerate(map(int, each))) for each in choices]
    requests = [Request(recipe, subsets=(number % 6,)) for number, recipe in enumerate(recipes)]
    with pytest.raises(ConnectionError, match="no Ray cluster answers at address='auto'"):
        RayWorkers(make, identity(own), 2)
    try:
        workers = RayWorkers(make, identity(own), 2, "local")
        victim = pid(workers.actors[0])
        kill = threading.Timer(0.05, os.kill, (victim, signal.SIGKILL))
        kill.start()
        cluster = ClusterScorer(own, workers)
        theirs, ours = cluster.evaluate(requests), own.evaluate(requests)
        for one, other in zip(theirs, ours, strict=True):
            assert one.cost == other.cost
            for task, values in other.values.items():
                np.testing.assert_array_equal(one.values[task], values)
        kill.join()
        time.sleep(0.5)
        cluster.evaluate(requests[:20])
        assert cluster._alive == {1}
        with pytest.raises(ValueError, match="worker 0 has suite digest"):
            RayWorkers(make, (identity(own)[0], "another"), 1, "local")
        with pytest.raises(ValueError, match="the cluster has 2 CPUs"):
            RayWorkers(make, identity(own), 9, "local")
    finally:
        ray.shutdown()
