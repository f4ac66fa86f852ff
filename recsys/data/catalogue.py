"""The products as the model sees them: row i is product i everywhere to the right.

In: a frame of accepted products in row order, and their pictures. Out: columns, sellability, content hashes.
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
    """Decoded pictures of a catalogue.

    Attributes:
        pixels: (m, 3, S, S) uint8, usually memory-mapped.
        rows: (n,) int64, for each product its picture's row in `pixels`, -1 = none.
    """

    pixels: npt.NDArray[np.uint8]
    rows: IntArray

    @staticmethod
    def empty(n: int, size: int = 64) -> Images:
        """Pictures of a catalogue of `n` products that has none."""
        return Images(np.zeros((0, 3, size, size), np.uint8), np.full(n, -1, np.int64))

    @property
    def present(self) -> BoolArray:
        """(n,) bool: has the product a picture."""
        return self.rows >= 0

    def take(self, products: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Pictures of some products: (b, 3, S, S) uint8, zeros where there is none."""
        rows = self.rows[products]
        out = np.zeros((len(rows), *self.pixels.shape[1:]), np.uint8)
        held = rows >= 0
        out[held] = self.pixels[rows[held]]
        return out


@dataclass(frozen=True)
class Catalogue:
    """Products in row order.

    Attributes:
        ids: product ids; row i of everything is product i.
        frame: canonical product columns, attributes unfolded to `attributes.<name>` columns, and `image_hash`.
        sellable: (n,) bool, may the product be recommended.
        pictures: their decoded pictures.
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
                f"{len(self.images.rows)} picture rows"
            )
        self.sellable.flags.writeable = False

    def __len__(self) -> int:
        return len(self.ids)

    def hashes(self, columns: Sequence[str]) -> npt.NDArray[np.uint64]:
        """Hash what the named columns hold, product by product, the same on every machine: (n,) uint64."""
        return content_hashes(self.frame, columns)

    def titles(self, rows: npt.NDArray[np.integer]) -> list[str]:
        """Title of each row, the id where there is none."""
        titles = self.frame[schema.TITLE].gather(rows.tolist()).to_list()
        return [title or name for title, name in zip(titles, self.ids.ids(rows), strict=True)]


def content_hashes(frame: pl.DataFrame, columns: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Hash rows by value with blake2b (polars' own hash changes between versions): (n,) uint64.

    polars puts a row's cells together, so that Python has one call a row to make.
    """
    from hashlib import blake2b

    if not columns:  # no cell tells one product from another
        return np.full(frame.height, np.frombuffer(blake2b(b"\x1e", digest_size=8).digest(), "<u8")[0], np.uint64)
    cells = [
        (pl.col(name).cast(pl.String) if name in frame.columns else pl.lit(None, pl.String)).fill_null("\x00")
        for name in columns
    ]
    head = "\x1f".join(columns) + "\x1e"
    rows = frame.select(pl.concat_str([pl.lit(head) + cells[0], *cells[1:]], separator="\x1f").cast(pl.Binary))
    digests = b"".join([blake2b(row, digest_size=8).digest() for row in rows.to_series().to_list()])
    return np.frombuffer(digests, "<u8").astype(np.uint64)
