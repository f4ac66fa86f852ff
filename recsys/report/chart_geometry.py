"""The geometry of the charts: numbers become places in percent, so that a chart is as wide as the page it is on.

In: figures of `Content`. Out: plain rows for the templates, which draw them as SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recsys.report.content import ExposureShare
from recsys.report.measurements import Curve, Figure


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high`; `ticks` are (place in percent, number)."""

    low: float
    high: float
    ticks: tuple[tuple[float, float], ...]

    def at(self, value: float) -> float:
        """Place of a value in percent, inside 0 to 100; that of the low end for not-a-number."""
        if not math.isfinite(value):
            return 0.0
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 3)


@dataclass(frozen=True)
class Whisker:
    """A value with its interval: texts, and places in percent."""

    name: str
    figure: Figure
    at: float
    low: float
    high: float
    ours: bool


@dataclass(frozen=True)
class Line:
    """A small line chart: points in a box of 100 by 40, and the ends as numbers."""

    name: str
    points: str
    first: float
    last: float
    best: float
    steps: int


def axis(values: Iterable[float], *, zero: bool = True) -> Axis:
    """A scale with round ticks over all finite values; it begins at 0 unless `zero` is off or a value lies below."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high <= low:
        high = low + 1.0
    step = _step((high - low) / 3)
    first, last = math.floor(low / step), math.ceil(high / step)
    ends = Axis(first * step, last * step, ())
    ticks = tuple((ends.at(place * step), round(place * step, 10)) for place in range(first, last + 1))
    return Axis(ends.low, ends.high, ticks)


def _step(wanted: float) -> float:
    """The round number next above: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next((size * power for size in (1, 2, 5) if size * power >= wanted * 0.999), 10 * power)


def interval_rows(
    figures: Sequence[Figure], *, ours: str, scale: Axis | None = None
) -> tuple[Axis, tuple[Whisker, ...]]:
    """A row a figure on a common axis.

    Args:
        figures: in the order of the rows.
        ours: the system that is drawn in colour.
        scale: the axis; one that has all of them when not given.
    """
    if scale is None:
        scale = axis([end for one in figures for end in (one.value, one.low, one.high)])
    rows = tuple(
        Whisker(
            one.system, one, scale.at(one.value), scale.at(_or(one.low, one.value)),
            scale.at(_or(one.high, one.value)), one.system == ours,
        )
        for one in figures
    )  # fmt: skip
    return scale, rows


def _or(value: float, other: float) -> float:
    return value if math.isfinite(value) else other


def lines(curves: Sequence[Curve]) -> tuple[Line, ...]:
    """Each curve of two points or more in a box of its own, from its lowest to its highest value."""
    return tuple(_line(curve) for curve in curves if len(curve.values) > 1)


def _line(curve: Curve) -> Line:
    low, high = min(curve.values), max(curve.values)
    first, last = curve.steps[0], curve.steps[-1]
    points = " ".join(
        f"{100 * (step - first) / max(1, last - first):.2f},{38 - 36 * (value - low) / ((high - low) or 1):.2f}"
        for step, value in zip(curve.steps, curve.values, strict=True)
    )
    best = max(curve.values) if curve.name.startswith("ndcg") else min(curve.values)
    return Line(curve.name, points, curve.values[0], curve.values[-1], best, last)


def shares(rows: Sequence[ExposureShare]) -> Axis:
    """The common axis of shares of catalogue, sales and places."""
    return axis([part for row in rows for part in (row.catalogue, row.sales, row.exposure)])


def lorenz(points: Sequence[tuple[float, float, float]]) -> tuple[str, str]:
    """The curves of places and of sales in a box of 100 by 100."""
    exposure = " ".join(f"{100 * x:.2f},{100 - 100 * y:.2f}" for x, y, _ in points)
    sales = " ".join(f"{100 * x:.2f},{100 - 100 * y:.2f}" for x, _, y in points)
    return exposure, sales


def scale_to_percent(dots: Sequence[tuple[int, float, float, int]]) -> tuple[tuple[int, float, float, int], ...]:
    """Dots of a map moved into 3 to 97 percent of each side, the map's own proportions given up."""
    if not dots:
        return ()
    out = []
    ends = [
        (min(column), max(column)) for column in (list(zip(*dots, strict=True))[1], list(zip(*dots, strict=True))[2])
    ]
    for product, x, y, group in dots:
        left, top = (
            3 + 94 * ((value - low) / (high - low) if high > low else 0.5)
            for value, (low, high) in zip((x, y), ends, strict=True)
        )
        out.append((product, round(left, 2), round(100 - top, 2), group))
    return tuple(out)


def cluster_label_positions(dots: Sequence[tuple[int, float, float, int]]) -> dict[int, tuple[float, float]]:
    """Where the name of each group stands: the median of its dots."""
    held: dict[int, tuple[list[float], list[float]]] = {}
    for _, x, y, group in dots:
        xs, ys = held.setdefault(group, ([], []))
        xs.append(x)
        ys.append(y)
    return {group: (sorted(xs)[len(xs) // 2], sorted(ys)[len(ys) // 2]) for group, (xs, ys) in held.items()}
