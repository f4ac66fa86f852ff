"""The products that a report shows: each once, the most wanted picture first, with what stands under it.

In: a catalogue, product ids or rows in the order in which they are wanted. Out: places in `Content.products`, pixels.
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
    """Collects products; a place once given stays."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._places: dict[int, int] = {}

    def add(self, row: int) -> int:
        """The place of a product by its row."""
        return self._places.setdefault(int(row), len(self._places))

    def add_all(self, ids: Iterable[str]) -> list[int]:
        """The places of products by their ids; -1 for one that is not in the catalogue any more."""
        rows = self._catalogue.ids.rows(list(ids))
        return [self.add(row) if row >= 0 else -1 for row in rows.tolist()]

    def products(self) -> tuple[ProductCard, ...]:
        """All of them, in their places."""
        rows = np.array(list(self._places), np.int64)
        titles = self._catalogue.titles(rows)
        ids = self._catalogue.ids.ids(rows)
        held = self._catalogue.images.present[rows].tolist()
        pictures = np.cumsum(held) - 1
        return tuple(
            ProductCard(name, title, about, int(picture) if there else -1)
            for name, title, about, picture, there in zip(ids, titles, self._about(rows), pictures, held, strict=True)
        )

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The pictures of those that have one, (m, 3, S, S), in the order of their places."""
        rows = np.array(list(self._places), np.int64)
        return self._catalogue.images.take(rows[self._catalogue.images.present[rows]])

    def _about(self, rows: IntArray) -> list[str]:
        """Brand, category and price of each product, as far as they are known."""
        frame = self._catalogue.frame[rows.tolist()] if len(rows) else self._catalogue.frame.head(0)
        parts = [frame[name].cast(pl.String).to_list() for name in (schema.BRAND, schema.CATEGORY) if name in frame]
        if schema.PRICE in frame:
            known = schema.CURRENCY in frame
            currencies = frame[schema.CURRENCY].to_list() if known else [None] * frame.height
            prices = zip(frame[schema.PRICE].to_list(), currencies, strict=True)
            parts.append([None if price is None else f"{price:,.2f} {money or ''}".strip() for price, money in prices])
        return [" · ".join(part for part in cells if part) for cells in zip(*parts, strict=True)] or [""] * len(rows)
