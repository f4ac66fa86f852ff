"""What each chart of the page shows, chosen and ordered from the content.

In: `ReportContent`. Out: `ChartData`, whose properties are rows for the templates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from recsys.report import chart_geometry as charts
from recsys.report import tables
from recsys.report.content import ClusterCard, ReportContent
from recsys.report.measurements import Cell, Figure, Grid
from recsys.report.summary import METRIC, WHOLE

OURS = "recsys"
_HUES = 7
"""Groups of a map that have a colour of their own; the others are grey."""
_NAMED = 10
_ENOUGH = 20
"""Users below which a slice is left to the table."""
_MEASURES = ("ndcg@10", "hr@10", "mrr@10", "map@", "recall@", "coverage@", "gini@", "novelty@", "diversity@")
SLICES = {
    "all": "all users",
    "new_purchases": "without repeat purchases",
    "with_history": "users with a history",
    "no_history": "users without history",
    "history_1_2": "1–2 products known",
    "history_3_9": "3–9 products known",
    "history_10_up": "10 and more known",
    "unseen_products": "products never sold before",
    "rare_products": "products sold once or twice",
    "common_products": "products sold 3 times and more",
    "pictured_products": "products with a picture",
    "unpictured_products": "products without a picture",
    "new_products": "products new since the cut",
}


@dataclass(frozen=True)
class ForestPlot:
    """Rows with intervals on one axis."""

    title: str
    axis: charts.Axis
    rows: tuple[charts.Whisker, ...]


@dataclass(frozen=True)
class SliceComparison:
    """A slice: ours and the best other system."""

    name: str
    users: int
    ours: charts.Whisker
    other: charts.Whisker


@dataclass(frozen=True)
class ChartData:
    """The charts of a report."""

    content: ReportContent

    @cached_property
    def systems(self) -> ForestPlot | None:
        """NDCG@10 of every system over all test users, the best first."""
        found = self.content.evaluation
        if found is None:
            return None
        chosen = [one for one in found.figures if (one.slice, one.metric) == (WHOLE, METRIC)]
        chosen.sort(key=lambda one: (-one.value, one.system))
        return ForestPlot("NDCG@10", *charts.interval_rows(chosen, ours=found.ours)) if chosen else None

    @cached_property
    def measures(self) -> Grid | None:
        """Every system by the measures people ask for."""
        found = self.content.evaluation
        if found is None:
            return None
        whole = [one for one in found.figures if one.slice == WHOLE and "sampled" not in one.metric]
        names = [name for name in dict.fromkeys(one.metric for one in whole) if name.startswith(_MEASURES)]
        value = {(one.system, one.metric): one.value for one in whole}
        systems = list(dict.fromkeys(one.system for one in whole))
        rows: list[tuple[Cell, ...]] = []
        for system in systems:
            rows.append((system, *(value.get((system, name), math.nan) for name in names)))
        return Grid("All systems, all test users", ("system", *names), tuple(rows))

    @cached_property
    def pairs(self) -> Grid | None:
        """Ours less each other system, by NDCG@10."""
        found = self.content.evaluation
        if found is None or not found.pairs:
            return None
        rows = tuple(
            (SLICES.get(one.slice, one.slice), one.other, one.difference, one.low, one.high, one.p, one.users)
            for one in found.pairs
            if one.metric == METRIC
        )
        title = f"NDCG@10 of {found.pairs[0].system} less that of the others, same users"
        return Grid(title, ("slice", "other", "difference", "low", "high", "p", "users"), rows)

    @cached_property
    def bands(self) -> tuple[charts.Axis, tuple[SliceComparison, ...]] | None:
        """By slice: ours, and the plain system that is best there."""
        found = self.content.evaluation
        if found is None or not found.ours:
            return None
        held: dict[str, list[Figure]] = {}
        for one in found.figures:
            if one.metric == METRIC and one.users >= _ENOUGH and math.isfinite(one.value):
                held.setdefault(one.slice, []).append(one)
        both = [(name, *_best(some, found.ours)) for name, some in held.items()]
        chosen = [(name, ours, other) for name, ours, other in both if ours is not None and other is not None]
        if not chosen:
            return None
        scale, rows = charts.interval_rows([one for _, *pair in chosen for one in pair], ours=found.ours)
        return scale, tuple(
            SliceComparison(SLICES.get(name, name), ours.users, rows[2 * at], rows[2 * at + 1])
            for at, (name, ours, _) in enumerate(chosen)
        )

    @cached_property
    def slices(self) -> Grid | None:
        """NDCG@10 of every system by slice."""
        found = self.content.evaluation
        if found is None:
            return None
        some = [one for one in found.figures if one.metric == METRIC]
        systems = list(dict.fromkeys(one.system for one in some))
        value = {(one.slice, one.system): one for one in some}
        names = list(dict.fromkeys(one.slice for one in some))
        rows: list[tuple[Cell, ...]] = []
        for name in names:
            users = max(one.users for one in some if one.slice == name)
            cells = (value[name, system].value if (name, system) in value else math.nan for system in systems)
            rows.append((SLICES.get(name, name), users, *cells))
        return Grid("NDCG@10 by slice", ("slice", "users", *systems), tuple(rows))

    @cached_property
    def agreement(self) -> tuple[ForestPlot, ...]:
        """For each attribute: how often neighbours share it, for ours, for words, for chance."""
        held: dict[str, list[Figure]] = {}
        for one in self.content.agreement:
            held.setdefault(one.slice, []).append(one)
        scale = charts.axis([0.0, 1.0])
        return tuple(
            ForestPlot(name, *charts.interval_rows(some, ours=OURS, scale=scale)) for name, some in held.items()
        )

    @cached_property
    def stages(self) -> tuple[tuple[str, tuple[charts.Line, ...]], ...]:
        """Curves of each trained part."""
        training = self.content.training
        curves = training.curves if training else ()
        names = list(dict.fromkeys(one.stage for one in curves))
        drawn = ((name, charts.lines([one for one in curves if one.stage == name])) for name in names)
        return tuple((name, lines) for name, lines in drawn if lines)

    @cached_property
    def hues(self) -> dict[int, int]:
        """Colour 1 to 7 of each group of products, 0 = grey: groups of a parent share one, the largest come first."""
        clusters = self.content.clusters
        if clusters is None:
            return {}
        sizes: dict[str, int] = {}
        for group in clusters.groups:
            sizes[_kin(group)] = sizes.get(_kin(group), 0) + group.size
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:_HUES]
        place = {name: at for at, name in enumerate(largest, start=1)}
        return {group.id: place.get(_kin(group), 0) for group in clusters.groups}

    @cached_property
    def legend(self) -> tuple[tuple[int, str], ...]:
        """Colour and name of each coloured group of groups."""
        clusters = self.content.clusters
        named: dict[int, str] = {}
        for group in clusters.groups if clusters else ():
            named.setdefault(self.hues[group.id], group.parent or group.label)
        return tuple((hue, named[hue]) for hue in sorted(named) if hue)

    @cached_property
    def dots(self) -> tuple[tuple[int, float, float, int], ...]:
        """The map."""
        clusters = self.content.clusters
        return charts.scale_to_percent(clusters.dots) if clusters else ()

    @cached_property
    def names(self) -> tuple[tuple[float, float, str], ...]:
        """Where the names of the largest groups stand on the map."""
        clusters = self.content.clusters
        if clusters is None:
            return ()
        middles = charts.cluster_label_positions(self.dots)
        chosen = [group for group in clusters.groups if group.id in middles][:_NAMED]
        return tuple(_apart([(*middles[group.id], _brief(group.label)) for group in chosen]))

    @property
    def grids(self) -> tables.Grids:
        """The tables behind the charts."""
        return tables.Grids(self.content)


def _kin(group: ClusterCard) -> str:
    return group.parent or f"\0{group.id}"


def _brief(label: str) -> str:
    """The first two terms of a label."""
    return " · ".join(label.split(" · ")[:2])


def _best(some: list[Figure], ours: str) -> tuple[Figure | None, Figure | None]:
    mine = next((one for one in some if one.system == ours), None)
    others = [one for one in some if one.system != ours]
    return mine, max(others, key=lambda one: (one.value, one.system), default=None)


def _apart(names: list[tuple[float, float, str]]) -> Iterator[tuple[float, float, str]]:
    """Those that do not stand on one that comes before."""
    taken: list[tuple[float, float]] = []
    for x, y, name in names:
        if all(abs(x - left) > 18 or abs(y - top) > 5 for left, top in taken):
            taken.append((x, y))
            yield min(max(x, 12), 88), y, name
