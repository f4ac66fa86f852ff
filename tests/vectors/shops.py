"""Small catalogues and a stand-in for the model, for the tests of this room.

In: titles and columns. Out: a `Catalogue`, and a `StubModel` that counts what it encodes.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl

from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap


def catalogue(columns: dict[str, list], *, sellable=None) -> Catalogue:
    """A catalogue of these columns; `product_id` is p0, p1, ... unless given."""
    n = len(next(iter(columns.values())))
    ids = columns.get("product_id", [f"p{row}" for row in range(n)])
    frame = pl.DataFrame({"product_id": ids, "title": [None] * n, "image_hash": [None] * n, **columns})
    flags = np.ones(n, bool) if sellable is None else np.array(sellable, bool)
    return Catalogue(IdMap(ids), frame, flags, Images.empty(n))


class StubModel:
    """A vector from the bytes of the columns' text; remembers which products it was asked for."""

    def __init__(self, version="v1", columns=("title", "image_hash"), dim=8):
        self.content_version, self.columns, self.dim = version, list(columns), dim
        self.encoded: list[str] = []

    def encode(self, catalogue, rows):
        self.encoded += catalogue.ids.ids(rows)
        cells = [[catalogue.frame[name][int(row)] for name in self.columns] for row in rows]
        return self.encode_text([f"{self.content_version}{row}" for row in cells])

    def encode_text(self, texts):
        digests = [hashlib.blake2b(text.encode(), digest_size=2 * self.dim).digest() for text in texts]
        out = np.array([np.frombuffer(digest, np.int16) for digest in digests], np.float32).reshape(-1, self.dim) + 0.5
        return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)

    def encode_images(self, pixels):
        return self.encode_text([picture.tobytes().hex() for picture in pixels])
