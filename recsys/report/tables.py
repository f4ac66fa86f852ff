"""Tables with the numbers of the charts, to read or copy.

In: `ReportContent`. Out: one `Grid` per chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.report.content import ExposureShare, ReportContent
from recsys.report.measurements import Grid


@dataclass(frozen=True)
class ChartTables:
    """The tables of a report's charts; a table is empty if its chart is missing."""

    content: ReportContent

    @property
    def neighbour_agreement(self) -> Grid:
        """How often neighbours share an attribute value."""
        rows = tuple((row.slice, row.system, row.value, row.low, row.high) for row in self.content.agreement)
        return Grid("Neighbours with the same value", ("attribute", "neighbours by", "share", "low", "high"), rows)

    @property
    def sales_deciles(self) -> Grid:
        """Shares by decile of sales."""
        return self._create_share_grid("By sales", "decile", self._select_exposure("tenths"))

    @property
    def brands(self) -> Grid:
        """Shares by brand."""
        return self._create_share_grid("By brand", "brand", self._select_exposure("brands"))

    @property
    def prices(self) -> Grid:
        """Shares by price band."""
        return self._create_share_grid("By price band", "band", self._select_exposure("prices"))

    @property
    def lorenz(self) -> Grid:
        """The Lorenz curves at every tenth of the products."""
        points = self.content.exposure.lorenz if self.content.exposure else ()
        sample = points[:: max(1, (len(points) - 1) // 10)]
        columns = ("share of products, ascending", "share of list positions", "share of purchases")
        return Grid("Lorenz curves of list positions and purchases", columns, tuple(sample))

    @property
    def clusters(self) -> Grid:
        """The clusters of products."""
        clusters = self.content.clusters.groups if self.content.clusters else ()
        rows = tuple((card.id, card.label, card.size, card.parent or None, ", ".join(card.terms)) for card in clusters)
        return Grid("Clusters of products", ("id", "label", "products", "part of", "terms"), rows)

    def _select_exposure(self, name: str) -> Sequence[ExposureShare]:
        return getattr(self.content.exposure, name) if self.content.exposure else ()

    @staticmethod
    def _create_share_grid(title: str, label: str, shares: Sequence[ExposureShare]) -> Grid:
        columns = (label, "share of sellable products", "share of purchases", "share of list positions")
        return Grid(title, columns, tuple((row.name, row.catalogue, row.sales, row.exposure) for row in shares))
