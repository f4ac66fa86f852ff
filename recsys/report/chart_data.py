"""Select and order the data of each chart of the page.

In: `ReportContent`. Out: `ChartData`, whose properties are rows for the templates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from recsys.report import chart_geometry
from recsys.report.chart_geometry import Axis, Line, Whisker
from recsys.report.content import ClusterCard, ReportContent
from recsys.report.measurements import Cell, Figure, Grid
from recsys.report.summary import ALL_USERS, PRIMARY_METRIC
from recsys.report.tables import ChartTables

OWN_SYSTEM = "recsys"
_N_COLOURS = 7
"""Clusters of the map with a colour of their own; the others are grey."""
_MAX_LABELS = 10
_MIN_USERS = 20
"""Slices with fewer users appear only in the table."""
_METRICS = ("ndcg@10", "hr@10", "mrr@10", "map@", "recall@", "coverage@", "gini@", "novelty@", "diversity@")
SLICES = {
    "all": "all users",
    "new_purchases": "without repeat purchases",
    "with_history": "users with history",
    "no_history": "users without history",
    "history_1_2": "users with 1–2 products",
    "history_3_9": "users with 3–9 products",
    "history_10_up": "users with 10 or more products",
    "unseen_products": "products without an earlier event",
    "rare_products": "products with 1–2 earlier events",
    "common_products": "products with 3 or more earlier events",
    "pictured_products": "products with an image",
    "unpictured_products": "products without an image",
    "new_products": "products created since the cutoff",
}


@dataclass(frozen=True)
class ForestPlot:
    """Rows with intervals on a common axis."""

    title: str
    axis: Axis
    rows: tuple[Whisker, ...]


@dataclass(frozen=True)
class SliceComparison:
    """The recommender and the best baseline on a slice."""

    name: str
    users: int
    ours: Whisker
    other: Whisker


@dataclass(frozen=True)
class ChartData:
    """The charts of a report."""

    content: ReportContent

    @cached_property
    def systems(self) -> ForestPlot | None:
        """NDCG@10 of every system over all test users, best first."""
        evaluation = self.content.evaluation
        if evaluation is None:
            return None
        figures = [row for row in evaluation.figures if (row.slice, row.metric) == (ALL_USERS, PRIMARY_METRIC)]
        figures.sort(key=lambda row: (-row.value, row.system))
        if not figures:
            return None
        return ForestPlot("NDCG@10", *chart_geometry.create_interval_rows(figures, ours=evaluation.ours))

    @cached_property
    def system_metrics(self) -> Grid | None:
        """The main metrics of every system over all test users."""
        evaluation = self.content.evaluation
        if evaluation is None:
            return None
        figures = [row for row in evaluation.figures if row.slice == ALL_USERS and "sampled" not in row.metric]
        names = [name for name in dict.fromkeys(row.metric for row in figures) if name.startswith(_METRICS)]
        value = {(row.system, row.metric): row.value for row in figures}
        systems = list(dict.fromkeys(row.system for row in figures))
        rows: list[tuple[Cell, ...]] = []
        for system in systems:
            rows.append((system, *(value.get((system, name), math.nan) for name in names)))
        return Grid("All systems, all test users", ("system", *names), tuple(rows))

    @cached_property
    def paired_differences(self) -> Grid | None:
        """NDCG@10 of the recommender minus that of each other system."""
        evaluation = self.content.evaluation
        if evaluation is None or not evaluation.pairs:
            return None
        rows = tuple(
            (SLICES.get(pair.slice, pair.slice), pair.other, pair.difference, pair.low, pair.high, pair.p, pair.users)
            for pair in evaluation.pairs
            if pair.metric == PRIMARY_METRIC
        )
        title = f"Paired differences: NDCG@10 of {evaluation.pairs[0].system} minus NDCG@10 of the other system"
        return Grid(title, ("slice", "other system", "difference", "low", "high", "p", "users"), rows)

    @cached_property
    def slice_comparisons(self) -> tuple[Axis, tuple[SliceComparison, ...]] | None:
        """NDCG@10 by slice: the recommender and the best baseline on that slice."""
        evaluation = self.content.evaluation
        if evaluation is None or not evaluation.ours:
            return None
        by_slice: dict[str, list[Figure]] = {}
        for figure in evaluation.figures:
            if figure.metric == PRIMARY_METRIC and figure.users >= _MIN_USERS and math.isfinite(figure.value):
                by_slice.setdefault(figure.slice, []).append(figure)
        candidates = [(name, *_find_best(figures, evaluation.ours)) for name, figures in by_slice.items()]
        pairs = [(name, ours, other) for name, ours, other in candidates if ours is not None and other is not None]
        if not pairs:
            return None
        scale, rows = chart_geometry.create_interval_rows(
            [figure for _, *pair in pairs for figure in pair], ours=evaluation.ours
        )
        return scale, tuple(
            SliceComparison(SLICES.get(name, name), ours.users, rows[2 * i], rows[2 * i + 1])
            for i, (name, ours, _) in enumerate(pairs)
        )

    @cached_property
    def slice_metrics(self) -> Grid | None:
        """NDCG@10 of every system by slice."""
        evaluation = self.content.evaluation
        if evaluation is None:
            return None
        figures = [row for row in evaluation.figures if row.metric == PRIMARY_METRIC]
        systems = list(dict.fromkeys(row.system for row in figures))
        by_key = {(row.slice, row.system): row for row in figures}
        names = list(dict.fromkeys(row.slice for row in figures))
        rows: list[tuple[Cell, ...]] = []
        for name in names:
            users = max(row.users for row in figures if row.slice == name)
            cells = (by_key[name, system].value if (name, system) in by_key else math.nan for system in systems)
            rows.append((SLICES.get(name, name), users, *cells))
        return Grid("NDCG@10 by slice", ("slice", "users", *systems), tuple(rows))

    @cached_property
    def neighbour_agreement(self) -> tuple[ForestPlot, ...]:
        """For each attribute, how often neighbours share it: by vectors, by words, by chance."""
        by_attribute: dict[str, list[Figure]] = {}
        for figure in self.content.agreement:
            by_attribute.setdefault(figure.slice, []).append(figure)
        scale = chart_geometry.create_axis([0.0, 1.0])
        return tuple(
            ForestPlot(name, *chart_geometry.create_interval_rows(figures, ours=OWN_SYSTEM, scale=scale))
            for name, figures in by_attribute.items()
        )

    @cached_property
    def training_curves(self) -> tuple[tuple[str, tuple[Line, ...]], ...]:
        """Learning curves by trained part."""
        training = self.content.training
        curves = training.curves if training else ()
        names = list(dict.fromkeys(curve.stage for curve in curves))
        by_stage = (
            (name, chart_geometry.create_lines([curve for curve in curves if curve.stage == name])) for name in names
        )
        return tuple((name, lines) for name, lines in by_stage if lines)

    @cached_property
    def cluster_colours(self) -> dict[int, int]:
        """Colour 1 to 7 of each cluster, 0 = grey; clusters with one parent share it, largest parents first."""
        clusters = self.content.clusters
        if clusters is None:
            return {}
        sizes: dict[str, int] = {}
        for cluster in clusters.groups:
            sizes[_parent_key(cluster)] = sizes.get(_parent_key(cluster), 0) + cluster.size
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:_N_COLOURS]
        colour = {name: i for i, name in enumerate(largest, start=1)}
        return {cluster.id: colour.get(_parent_key(cluster), 0) for cluster in clusters.groups}

    @cached_property
    def map_legend(self) -> tuple[tuple[int, str], ...]:
        """Colour and name of each coloured parent cluster."""
        clusters = self.content.clusters
        names: dict[int, str] = {}
        for cluster in clusters.groups if clusters else ():
            names.setdefault(self.cluster_colours[cluster.id], cluster.parent or cluster.label)
        return tuple((colour, names[colour]) for colour in sorted(names) if colour)

    @cached_property
    def map_dots(self) -> tuple[tuple[int, float, float, int], ...]:
        """The products on the map: (product, x, y, cluster), x and y in percent."""
        clusters = self.content.clusters
        return chart_geometry.scale_to_percent(clusters.dots) if clusters else ()

    @cached_property
    def map_labels(self) -> tuple[tuple[float, float, str], ...]:
        """Positions and labels of the largest clusters on the map."""
        clusters = self.content.clusters
        if clusters is None:
            return ()
        positions = chart_geometry.cluster_label_positions(self.map_dots)
        labelled = [cluster for cluster in clusters.groups if cluster.id in positions][:_MAX_LABELS]
        return tuple(
            _drop_overlapping([(*positions[cluster.id], _shorten_label(cluster.label)) for cluster in labelled])
        )

    @property
    def tables(self) -> ChartTables:
        """The tables with the numbers of the charts."""
        return ChartTables(self.content)


def _parent_key(cluster: ClusterCard) -> str:
    """Return the parent's label; a cluster without a parent gets a unique key."""
    return cluster.parent or f"\0{cluster.id}"


def _shorten_label(label: str) -> str:
    """Return the first two terms of a label."""
    return " · ".join(label.split(" · ")[:2])


def _find_best(figures: list[Figure], ours: str) -> tuple[Figure | None, Figure | None]:
    """Return the value of `ours` and the best value of the other systems."""
    our_figure = next((figure for figure in figures if figure.system == ours), None)
    others = [figure for figure in figures if figure.system != ours]
    return our_figure, max(others, key=lambda figure: (figure.value, figure.system), default=None)


def _drop_overlapping(labels: list[tuple[float, float, str]]) -> Iterator[tuple[float, float, str]]:
    """Yield the labels that do not overlap an earlier one."""
    placed: list[tuple[float, float]] = []
    for x, y, name in labels:
        if all(abs(x - left) > 18 or abs(y - top) > 5 for left, top in placed):
            placed.append((x, y))
            yield min(max(x, 12), 88), y, name
