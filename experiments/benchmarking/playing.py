"""Runs in parallel processes, each kept as soon as it is done."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Thread

import torch

from experiments.benchmarking.plan import Job, open_table
from experiments.benchmarking.store import Result, Store
from merge_gym.evaluation.table import Table
from merge_gym.studies.study import Study


def play(job: Job) -> Result:
    """Run one search on its table."""
    agent, study = job.make_agent(), job.make_study()
    started = time.process_time()
    agent.search(study)
    seconds = time.process_time() - started
    table = open_table(job.table, job.subsets)
    found = table.index(study.best().recipe)
    return Result(found, study.spent, len(study.trials), tuple(_curve(study, table)), seconds)


def _curve(study: Study, table: Table) -> Iterator[tuple[int, int]]:
    """What was spent when each better recipe was found, and where in the table it stands."""
    best = -1.0
    for trial in study.trials:
        whole = trial.subsets is None or len(trial.subsets) == study.subset_count
        if whole and trial.mean > best:
            best = trial.mean
            yield trial.spent, table.index(trial.recipe)


def play_missing(
    jobs: Mapping[str, Job],
    store: Store,
    workers: int,
    report: Callable[[], object] = lambda: None,
) -> list[str]:
    """Run what the store lacks; returns what went wrong, a line for each run that did.

    Args:
        jobs: all that are wanted, by key.
        store: keeps each run at once.
        workers: how many processes run at a time.
        report: called for each run that is there.

    Raises RuntimeError where a worker was killed.
    """
    there = store.results(jobs)
    missing = {key: job for key, job in jobs.items() if key not in there}
    for _ in there:
        report()
    failures = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin) as pool:
        runs: dict[Future[Result], tuple[str, Job]] = {
            pool.submit(play, job): (key, job) for key, job in missing.items()
        }
        try:
            for run in as_completed(runs):
                key, job = runs[run]
                try:
                    store.add(key, job.asked(), run.result())
                except BrokenProcessPool:
                    raise RuntimeError("a worker was killed") from None
                except Exception as error:
                    failures.append(f"{job}: {type(error).__name__}: {error}")
                report()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return failures


def _begin() -> None:
    """Set up a worker: one thread, quiet, and ending with the process that started it."""
    torch.set_num_threads(1)
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  progress bars of single searches
    Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
