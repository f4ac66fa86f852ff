"""Products in the row order of all models and indexes: row i is product i.

In: a frame of accepted products, and their images. Out: columns, availability, content hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data import schema
from recsys.data.id_map import IdMap
from recsys.errors import DataContractError
from recsys.types import BoolArray, IntArray


@dataclass(frozen=True)
class Images:
    """Decoded images of a catalogue.

    Attributes:
        pixels: (m, 3, S, S) uint8, usually memory-mapped.
        rows: (n,) int64, row of each product's image in `pixels`, -1 = none.
    """

    pixels: npt.NDArray[np.uint8]
    rows: IntArray

    @staticmethod
    def empty(n: int, size: int = 64) -> Images:
        """Return the images of a catalogue of `n` products without images."""
        return Images(np.zeros((0, 3, size, size), np.uint8), np.full(n, -1, np.int64))

    @property
    def present(self) -> BoolArray:
        """(n,) bool: whether the product has an image."""
        return self.rows >= 0

    def take(self, products: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Return images of products: (b, 3, S, S) uint8, zeros for products without one."""
        rows = self.rows[products]
        pixels = np.zeros((len(rows), *self.pixels.shape[1:]), np.uint8)
        present = rows >= 0
        pixels[present] = self.pixels[rows[present]]
        return pixels


@dataclass(frozen=True)
class Catalogue:
    """Products in row order.

    Attributes:
        ids: product ids in row order.
        frame: canonical product columns, one column `attributes.<name>` for each attribute, and `image_hash`.
        sellable: (n,) bool, whether the product may be recommended.
        images: their decoded images.
    """

    ids: IdMap
    frame: pl.DataFrame
    sellable: BoolArray
    images: Images = field(repr=False)

    def __post_init__(self) -> None:
        n = len(self.ids)
        if not (n == self.frame.height == len(self.sellable) == len(self.images.rows)):
            raise DataContractError(
                f"catalogue parts disagree: {n} ids, {self.frame.height} rows, {len(self.sellable)} sellable flags, "
                f"{len(self.images.rows)} image rows"
            )
        self.sellable.flags.writeable = False

    def __len__(self) -> int:
        return len(self.ids)

    def hashes(self, columns: Sequence[str]) -> npt.NDArray[np.uint64]:
        """Hash the content of the named columns for each product, equal on every machine: (n,) uint64."""
        return content_hashes(self.frame, columns)

    def titles(self, rows: npt.NDArray[np.integer]) -> list[str]:
        """Return the title of each row, the id for products without a title."""
        titles = self.frame[schema.TITLE].gather(rows.tolist()).to_list()
        return [title or name for title, name in zip(titles, self.ids.ids(rows), strict=True)]


def content_hashes(frame: pl.DataFrame, columns: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Hash rows by value with blake2b (polars' own hash changes between versions): (n,) uint64.

    polars concatenates the cells of a row, so that Python makes one call for each row.
    """
    from hashlib import blake2b

    if not columns:  # all products are equal
        return np.full(frame.height, np.frombuffer(blake2b(b"\x1e", digest_size=8).digest(), "<u8")[0], np.uint64)
    cells = [
        (pl.col(name).cast(pl.String) if name in frame.columns else pl.lit(None, pl.String)).fill_null("\x00")
        for name in columns
    ]
    head = "\x1f".join(columns) + "\x1e"
    rows = frame.select(pl.concat_str([pl.lit(head) + cells[0], *cells[1:]], separator="\x1f").cast(pl.Binary))
    digests = b"".join([blake2b(row, digest_size=8).digest() for row in rows.to_series().to_list()])
    return np.frombuffer(digests, "<u8").astype(np.uint64)
