"""A catalogue whose products tell everything twice, and a plain encoder that forgets nothing.

In: a number of products. Out: a `Catalogue` with a few gaps; a `PlainModel` that adds up a direction for every cell.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import polars as pl

from recsys.data.catalogue import Catalogue, Images
from tests.encoder import shops

COLOUR = "attributes.colour"


def changed(catalogue: Catalogue, **cells: dict[int, object]) -> Catalogue:
    """The same with some cells changed: column (a dot written as __), row to value."""
    frame = catalogue.frame
    for name, values in cells.items():
        column = name.replace("__", ".")
        held = frame[column].to_list()
        for row, value in values.items():
            held[row] = value
        frame = frame.with_columns(pl.Series(column, held, dtype=frame.schema[column]))
    return Catalogue(catalogue.ids, frame, catalogue.sellable.copy(), catalogue.images)


def swapped(catalogue: Catalogue, pairs: Sequence[tuple[int, int]]) -> Catalogue:
    """The same with the pictures of some products exchanged."""
    rows = catalogue.images.rows.copy()
    for one, other in pairs:
        rows[one], rows[other] = rows[other], rows[one]
    pictures = Images(catalogue.images.pixels, rows)
    return Catalogue(catalogue.ids, catalogue.frame, catalogue.sellable.copy(), pictures)


class PlainModel:
    """One direction a word of the text, a value of an attribute, and for a picture those of its colour and kind.

    Attributes:
        hidden: what was hidden at each call.
    """

    content_version = "plain"
    columns = ("title", "description", "brand", "category", COLOUR, "attributes.fits")

    def __init__(self) -> None:
        self.hidden: list[tuple[str, ...]] = []

    def encode(
        self,
        catalogue: Catalogue,
        rows: np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        hide: Sequence[str] = (),
    ) -> np.ndarray:
        shown = modalities or ("text", "image", "attributes")
        self.hidden.append(tuple(hide))
        out = np.zeros((len(rows), 64), np.float32)
        for at, row in enumerate(rows.tolist()):
            words: list[str] = []
            for name in self.columns:
                kind = "text" if name in ("title", "description") else "attributes"
                if kind in shown and name not in hide and name in catalogue.frame.columns:
                    words += str(catalogue.frame[name][row] or "").split()
            if "image" in shown and catalogue.images.present[row]:
                words += 2 * _looks(catalogue.images.take(np.array([row]))[0])
            for word in words:
                out[at] += _direction(word)
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


@cache
def _direction(word: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=64)


def _looks(pixels: np.ndarray) -> list[str]:
    """Colour and kind of a drawn picture of `shops.catalogue`."""
    inside = pixels[:, 3, 4]
    colour = min(shops.COLOURS, key=lambda name: np.abs(np.array(shops.COLOURS[name]) - inside).sum())
    tall = int((pixels.min(0)[:, 5] < 250).sum())
    size = pixels.shape[1]
    kinds = {size // 3: "boots", size - 4: "dress", size // 2: "shirt"}
    return [colour, kinds[tall]]
