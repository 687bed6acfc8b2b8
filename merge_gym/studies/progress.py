"""A progress bar over episodes, silent where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from agents.episodes import EpisodeRecord


@contextmanager
def progress_bar(episodes: int) -> Iterator[Callable[[EpisodeRecord], None]]:
    """Yields what is to be called with each finished episode."""
    best = -float("inf")
    with tqdm(total=episodes, unit="episode", disable=None) as bar:

        def advance(record: EpisodeRecord) -> None:
            nonlocal best
            best = max(best, record.raw_reward)
            bar.set_postfix_str(f"last {record.raw_reward:.1f}, best {best:.1f}", refresh=False)
            bar.update()

        yield advance
