"""Progress bars, silent where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from merge_gym.studies.study import Study, Trial


@contextmanager
def episodes_bar(episodes: int) -> Iterator[Callable[[Any], None]]:
    """Yields what is to be called with the record of each finished episode."""
    best = -float("inf")
    with tqdm(total=episodes, unit="episode", disable=None) as bar:

        def advance(record: Any) -> None:
            nonlocal best
            best = max(best, record.raw_reward)
            bar.set_postfix_str(f"last {record.raw_reward:.1f}, best {best:.1f}", refresh=False)
            bar.update()

        yield advance


@contextmanager
def budget_bar(study: Study) -> Iterator[None]:
    """Shows while a study runs how many full evaluations it has spent, and its best full score."""
    full, best = study.full_cost, -float("inf")
    total = None if study.budget is None else study.budget / full
    counts = "{n:.1f}/{total:.1f} evaluations [{elapsed}<{remaining}{postfix}]"
    form = "{percentage:3.0f}%|{bar}| " + counts if total else None
    with tqdm(total=total, bar_format=form, disable=None) as bar:

        def advance(trial: Trial) -> None:
            nonlocal best
            if trial.subsets is None:
                best = max(best, 100 * trial.mean)
                bar.set_postfix_str(f"best {best:.1f}", refresh=False)
            bar.n = trial.spent / full
            bar.update(0)

        study.listeners.append(advance)
        try:
            yield
        finally:
            study.listeners.remove(advance)
