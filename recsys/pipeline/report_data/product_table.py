"""The products shown in a report: each once, in order of first use, with image and caption.

In: a catalogue, product ids or rows in order of use. Out: positions in `ReportContent.products`, pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.report.content import ProductCard
from recsys.types import IntArray


class ProductTable:
    """Collects products and assigns each a fixed position."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._positions: dict[int, int] = {}

    def add(self, row: int) -> int:
        """Add a product by its row; return its position."""
        return self._positions.setdefault(int(row), len(self._positions))

    def add_all(self, ids: Iterable[str]) -> list[int]:
        """Add products by id; return their positions, -1 for one that is no longer in the catalogue."""
        rows = self._catalogue.ids.rows(list(ids))
        return [self.add(row) if row >= 0 else -1 for row in rows.tolist()]

    def products(self) -> tuple[ProductCard, ...]:
        """Return all products, by position."""
        rows = np.array(list(self._positions), np.int64)
        titles = self._catalogue.titles(rows)
        ids = self._catalogue.ids.ids(rows)
        has_image = self._catalogue.images.present[rows].tolist()
        image_rows = np.cumsum(has_image) - 1
        return tuple(
            ProductCard(name, title, caption, int(image_row) if present else -1)
            for name, title, caption, image_row, present in zip(
                ids, titles, self._captions(rows), image_rows, has_image, strict=True
            )
        )

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return the images of the products that have one, (m, 3, S, S), by position."""
        rows = np.array(list(self._positions), np.int64)
        return self._catalogue.images.take(rows[self._catalogue.images.present[rows]])

    def _captions(self, rows: IntArray) -> list[str]:
        """Return brand, category and price of each product, as far as they are present."""
        frame = self._catalogue.frame[rows.tolist()] if len(rows) else self._catalogue.frame.head(0)
        parts = [frame[name].cast(pl.String).to_list() for name in (schema.BRAND, schema.CATEGORY) if name in frame]
        if schema.PRICE in frame:
            has_currency = schema.CURRENCY in frame
            currencies = frame[schema.CURRENCY].to_list() if has_currency else [None] * frame.height
            prices = zip(frame[schema.PRICE].to_list(), currencies, strict=True)
            parts.append([None if price is None else f"{price:,.2f} {money or ''}".strip() for price, money in prices])
        return [" · ".join(part for part in cells if part) for cells in zip(*parts, strict=True)] or [""] * len(rows)
