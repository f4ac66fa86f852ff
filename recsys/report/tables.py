"""The tables behind the charts: the same numbers, to be read or copied.

In: `ReportContent`. Out: a `Grid` a chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.report.content import ExposureShare, ReportContent
from recsys.report.measurements import Grid


@dataclass(frozen=True)
class Grids:
    """The tables of a report's charts; without rows where there is no chart."""

    content: ReportContent

    @property
    def agreements(self) -> Grid:
        """How often neighbours share an attribute."""
        rows = tuple((one.slice, one.system, one.value, one.low, one.high) for one in self.content.agreement)
        return Grid("Neighbours with the same value", ("attribute", "neighbours by", "share", "low", "high"), rows)

    @property
    def tenths(self) -> Grid:
        """Shares by tenths of sales."""
        return self._shares("By how well it sells", "part", self._of("tenths"))

    @property
    def brands(self) -> Grid:
        """Shares by brand."""
        return self._shares("By brand", "brand", self._of("brands"))

    @property
    def prices(self) -> Grid:
        """Shares by price band."""
        return self._shares("By price band", "band", self._of("prices"))

    @property
    def lorenz(self) -> Grid:
        """The curve of evenness at every tenth of the products."""
        points = self.content.exposure.lorenz if self.content.exposure else ()
        some = points[:: max(1, (len(points) - 1) // 10)]
        columns = ("least shown share of the products", "share of the places", "least sold: share of the purchases")
        return Grid("How evenly places and purchases are spread", columns, tuple(some))

    @property
    def groups(self) -> Grid:
        """The groups of products."""
        groups = self.content.clusters.groups if self.content.clusters else ()
        rows = tuple((one.id, one.label, one.size, one.parent or None, ", ".join(one.terms)) for one in groups)
        return Grid("Groups of products", ("id", "label", "products", "part of", "terms"), rows)

    def _of(self, name: str) -> Sequence[ExposureShare]:
        return getattr(self.content.exposure, name) if self.content.exposure else ()

    @staticmethod
    def _shares(title: str, what: str, rows: Sequence[ExposureShare]) -> Grid:
        columns = (what, "share of sellable products", "share of purchases", "share of places")
        return Grid(title, columns, tuple((one.name, one.catalogue, one.sales, one.exposure) for one in rows))
