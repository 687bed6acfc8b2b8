"""Tables that fit the terminal: whole columns are left out before a figure is cut."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table


def screen(width: int = 120) -> Console:
    """Where programs print: as wide as the terminal or as COLUMNS says, else `width`."""
    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console() if told else Console(width=width)


def fitted(console: Console, tables: Iterable[Table]) -> Table:
    """The first of the tables, given from the widest to the narrowest, of which no cell is cut; the
    narrowest where that is none."""
    for table in tables:
        unbound = console.options.update(width=10_000)
        if console.measure(table, options=unbound).maximum <= console.width:
            break
    return table
