"""Agents × tables × budgets × seeds at equal evaluation cost, and a page that compares them.

    python -m experiments.benchmark
    python -m experiments.benchmark plan.seeds=5 'plan.budgets=[30]' directory=runs/quick

The plan (conf/plan/) says what is run. Every run is kept in the directory's store as soon as it is
done, so a benchmark that was stopped, or whose plan has grown, runs only what is missing. A store
that is not there begins with the runs in the directory's results.csv.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from experiments.benchmarking import results
from experiments.benchmarking.page import write_report
from experiments.benchmarking.plan import Plan
from experiments.benchmarking.playing import play_missing
from experiments.benchmarking.standings import Standings
from experiments.benchmarking.store import Store

STORE, RESULTS = "runs.sqlite", "results.csv"


def run(plan: Plan, directory: Path, workers: int) -> list[str]:
    """Run what is missing and write results and page, of what there is where it is interrupted;
    returns what went wrong, a line a run."""
    jobs = {job.key: job for job in plan.jobs()}
    with open_store(directory) as store:
        try:
            with tqdm(total=len(jobs), unit="run", smoothing=0.02) as bar:
                return play_missing(jobs, store, workers, bar.update)
        finally:
            rows = results.rows(jobs, store.results(jobs))
            results.write_rows(directory / RESULTS, rows)
            write_report(Standings(plan, rows), directory)


def open_store(directory: Path) -> Store:
    """The store of a directory; a new one holds what its results.csv says."""
    new = not (directory / STORE).exists()
    store = Store(directory / STORE)
    if new and (directory / RESULTS).exists():
        for row in results.read_rows(directory / RESULTS):
            store.add(row.job.key, row.job.asked(), row.result)
    return store


@hydra.main(version_base=None, config_path="../conf", config_name="benchmark")
def main(config: DictConfig) -> None:
    """Run or finish a benchmark."""
    directory = Path(to_absolute_path(config.directory))
    plain: Any = OmegaConf.to_container(config.plan, resolve=True)
    try:
        if not isinstance(config.workers, int) or config.workers < 1:
            raise ValueError(f"workers is a whole number of at least 1, got {config.workers!r}")
        failures = run(Plan.read(plain), directory, config.workers)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"interrupted; the same command goes on: {directory}") from None
    print(f"{directory / 'report.html'}, and {RESULTS} beside it")
    if failures:
        raise SystemExit("\n".join([f"error: {len(failures)} runs failed", *failures[:20]]))


if __name__ == "__main__":
    main()
