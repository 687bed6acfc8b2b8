"""Plots as inline SVG, told apart by shape and weight, not by colour; styled by the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from experiments.benchmarking.statistics import Estimate

Point = tuple[float, float]

WIDTH, HEIGHT = 230, 150
LEFT, RIGHT, TOP, BOTTOM = 30, 10, 10, 24


def interval(estimate: Estimate, most: float, mark: float | None = None) -> str:
    """An estimate as a dot on its interval, from 0 to `most`; `mark` is a dashed line."""

    def at(value: float) -> str:
        return f"{100 * min(max(value / most, 0), 1):.2f}%"

    words = f"{estimate.value:.2f}, interval {estimate.low:.2f} to {estimate.high:.2f}"
    line = "" if mark is None else f'<line class="mark" x1="{at(mark)}" x2="{at(mark)}" y2="20"/>'
    return (
        f'<svg class="interval" role="img" aria-label="{words}">'
        f'<line class="axis" x2="100%" y1="10" y2="10"/>{line}'
        f'<line class="bar" x1="{at(estimate.low)}" x2="{at(estimate.high)}" y1="10" y2="10"/>'
        f'<circle cx="{at(estimate.value)}" cy="10" r="4.5"/></svg>'
    )


class Panel:
    """One small plot of many: the same axes in each, one line in bold, the others faint.

    Args:
        horizontal: ticks of the horizontal axis, first and last its ends.
        most: the top of the vertical axis, which begins at 0.
        logarithmic: whether the horizontal axis is.
        percent: whether the vertical axis is of shares.
    """

    def __init__(
        self,
        horizontal: Sequence[float],
        most: float,
        logarithmic: bool = False,
        percent: bool = False,
    ) -> None:
        self.horizontal, self.most = horizontal, most
        self.logarithmic, self.percent = logarithmic, percent

    def draw(
        self,
        title: str,
        lines: Mapping[str, Sequence[Point]],
        bold: str,
        band: Sequence[tuple[float, float, float]] = (),
        level: float | None = None,
    ) -> str:
        """The plot as a figure.

        Args:
            title: under it.
            lines: {name: points}.
            bold: which of them is meant; its points are marked.
            band: (horizontal, lower, upper) of its interval.
            level: of a dashed horizontal line.
        """
        faint = [self._line(points, "faint") for name, points in lines.items() if name != bold]
        own = lines[bold]
        dots = "" if self.percent else "".join(self._dot(point) for point in own)
        dashed = "" if level is None else self._line([(x, level) for x in self._ends], "mark")
        words = "; ".join(f"{x:g}: {self._label(y)}" for x, y in own)
        return (
            f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(title)}: {words}">{self._axes()}{"".join(faint)}{dashed}'
            f"{self._area(band)}{self._line(own, 'own')}{dots}</svg>"
            f"<figcaption>{escape(title)}</figcaption></figure>"
        )

    @property
    def _ends(self) -> Point:
        return self.horizontal[0], self.horizontal[-1]

    def _x(self, value: float) -> float:
        low, high = self._ends
        share = (
            math.log(value / low) / math.log(high / low)
            if self.logarithmic
            else (value - low) / (high - low)
        )
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        share = min(max(value / self.most, 0), 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def _line(self, points: Sequence[Point], kind: str) -> str:
        places = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        return f'<polyline class="{kind}" points="{places}"/>'

    def _area(self, band: Sequence[tuple[float, float, float]]) -> str:
        if not band:
            return ""
        there = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
        places = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in there)
        return f'<polygon class="band" points="{places}"/>'

    def _dot(self, point: Point) -> str:
        x, y = point
        return f'<circle cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="3"/>'

    def _axes(self) -> str:
        across = [self.most * part / 4 for part in range(5)]
        grid = "".join(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self._y(y):.1f}" '
            f'y2="{self._y(y):.1f}"/>'
            f'<text x="{LEFT - 4}" y="{self._y(y) + 3.5:.1f}" text-anchor="end">'
            f"{self._label(y)}</text>"
            for y in across
        )
        ticks = "".join(
            f'<text x="{self._x(x):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{x:g}</text>'
            for x in self.horizontal
        )
        return grid + ticks

    def _label(self, value: float) -> str:
        return f"{100 * value:.0f}%" if self.percent else f"{value:.3g}"
