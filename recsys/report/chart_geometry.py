"""Geometry of the charts: values become positions in percent, so that charts scale with the page.

In: values of `ReportContent`. Out: plain rows for the templates, which draw them as SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recsys.report.content import ExposureShare
from recsys.report.measurements import Curve, Figure

_MIN_SPAN = 1e-300
"""Smallest span of an axis; below it the step between ticks would underflow to 0."""


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high`; `ticks` are (position in percent, value)."""

    low: float
    high: float
    ticks: tuple[tuple[float, float], ...]

    def to_percent(self, value: float) -> float:
        """Return the position of a value in percent, clipped to 0..100; 0 if the value is not finite."""
        if not math.isfinite(value):
            return 0.0
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 3)


@dataclass(frozen=True)
class Whisker:
    """A value with its interval; `position`, `low` and `high` are in percent."""

    name: str
    figure: Figure
    position: float
    low: float
    high: float
    ours: bool


@dataclass(frozen=True)
class Line:
    """A small line chart: points in a box of 100 by 40, and the first and last value."""

    name: str
    points: str
    first: float
    last: float
    steps: int


def create_axis(values: Iterable[float]) -> Axis:
    """Create an axis with round ticks that contains 0 and all finite values."""
    finite = [0.0, *(value for value in values if math.isfinite(value))]
    low, high = min(finite), max(finite)
    if high - low < _MIN_SPAN:
        high = low + 1.0
    step, decimals = _choose_step((high - low) / 3)
    first, last = math.floor(low / step), math.ceil(high / step)
    # the quotient may be rounded past an end
    first -= first * step > low
    last += last * step < high
    bounds = Axis(first * step, last * step, ())
    ticks = tuple((bounds.to_percent(i * step), round(i * step, decimals)) for i in range(first, last + 1))
    return Axis(bounds.low, bounds.high, ticks)


def _choose_step(minimum: float) -> tuple[float, int]:
    """Return the next round number, 1, 2 or 5 times a power of ten, and the decimals it needs."""
    exponent = math.floor(math.log10(minimum))
    power = 10.0**exponent
    step = next((size * power for size in (1, 2, 5) if size * power >= minimum * 0.999), 10 * power)
    return step, -exponent


def create_interval_rows(
    figures: Sequence[Figure], *, ours: str, scale: Axis | None = None
) -> tuple[Axis, tuple[Whisker, ...]]:
    """Create one row per metric value on a common axis.

    Args:
        figures: in the order of the rows.
        ours: the system to highlight.
        scale: the axis; None = one that contains all values and intervals.
    """
    if scale is None:
        scale = create_axis([end for figure in figures for end in (figure.value, figure.low, figure.high)])
    rows = tuple(
        Whisker(
            figure.system, figure, scale.to_percent(figure.value),
            scale.to_percent(_finite_or(figure.low, figure.value)),
            scale.to_percent(_finite_or(figure.high, figure.value)), figure.system == ours,
        )
        for figure in figures
    )  # fmt: skip
    return scale, rows


def _finite_or(value: float, fallback: float) -> float:
    return value if math.isfinite(value) else fallback


def create_lines(curves: Sequence[Curve]) -> tuple[Line, ...]:
    """Scale each curve of at least two points to its own box, from its lowest to its highest value."""
    return tuple(_create_line(curve) for curve in curves if len(curve.values) > 1)


def _create_line(curve: Curve) -> Line:
    low, high = min(curve.values), max(curve.values)
    first, last = curve.steps[0], curve.steps[-1]
    points = " ".join(
        f"{100 * (step - first) / max(1, last - first):.2f},{38 - 36 * (value - low) / ((high - low) or 1):.2f}"
        for step, value in zip(curve.steps, curve.values, strict=True)
    )
    return Line(curve.name, points, curve.values[0], curve.values[-1], last)


def share_axis(rows: Sequence[ExposureShare]) -> Axis:
    """Create the common axis of the shares of catalogue, sales and list positions."""
    return create_axis([share for row in rows for share in (row.catalogue, row.sales, row.exposure)])


def lorenz_curves(points: Sequence[tuple[float, float, float]]) -> tuple[str, str]:
    """Return the SVG points of the Lorenz curves of list positions and of sales in a box of 100 by 100."""
    exposure = " ".join(f"{100 * x:.2f},{100 - 100 * y:.2f}" for x, y, _ in points)
    sales = " ".join(f"{100 * x:.2f},{100 - 100 * y:.2f}" for x, _, y in points)
    return exposure, sales


def scale_to_percent(dots: Sequence[tuple[int, float, float, int]]) -> tuple[tuple[int, float, float, int], ...]:
    """Scale the dots of a map to 3..97 percent of each side; the aspect ratio of the map is not kept."""
    if not dots:
        return ()
    out = []
    ranges = [
        (min(column), max(column)) for column in (list(zip(*dots, strict=True))[1], list(zip(*dots, strict=True))[2])
    ]
    for product, x, y, cluster in dots:
        left, bottom = (
            3 + 94 * ((value - low) / (high - low) if high > low else 0.5)
            for value, (low, high) in zip((x, y), ranges, strict=True)
        )
        out.append((product, round(left, 2), round(100 - bottom, 2), cluster))
    return tuple(out)


def cluster_label_positions(dots: Sequence[tuple[int, float, float, int]]) -> dict[int, tuple[float, float]]:
    """Return the position of each cluster's label: the median of its dots."""
    coordinates: dict[int, tuple[list[float], list[float]]] = {}
    for _, x, y, cluster in dots:
        xs, ys = coordinates.setdefault(cluster, ([], []))
        xs.append(x)
        ys.append(y)
    return {cluster: (sorted(xs)[len(xs) // 2], sorted(ys)[len(ys) // 2]) for cluster, (xs, ys) in coordinates.items()}
