"""The fashion catalogue as the rooms see it: what may be learned from, and products held back whole with their labels.

In: a table of products and a zip of their pictures, or two of each. Out: `Divided`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from representation_parts import Divided, Part

from recsys.config import ImageSettings
from recsys.data import schema
from recsys.data.dataset import catalogue_from_frame
from recsys.data.image_store import ImageStore
from recsys.errors import UsageError

ID, TITLE = "id", "productDisplayName"
ASKED = ("articleType", "baseColour", "gender")
"""What vectors are asked for; nothing sees these as attributes (titles do speak of them)."""
SHOWN = ("season", "year", "usage")
"""Attributes that may be seen; masterCategory and subCategory would give the type away."""
HELD = 1500
QUICK = {"held": 60, "pictured": 120, "text-only": 80}


def opened(asked: argparse.Namespace, work: Path, settings: ImageSettings, *, pictured_only: bool) -> Divided:
    """The files of a command line: `products`, `images` and, where it has them, `test_products`, `test_images`."""
    return read(
        products=asked.products,
        images=asked.images,
        test_products=getattr(asked, "test_products", None),
        test_images=getattr(asked, "test_images", None),
        folder=work / f"pictures-{settings.size}",
        settings=settings,
        pictured_only=pictured_only,
        quick=asked.quick,
    )


def read(
    *,
    products: Path,
    images: Path,
    test_products: Path | None,
    test_images: Path | None,
    folder: Path,
    settings: ImageSettings,
    pictured_only: bool = False,
    quick: bool = False,
) -> Divided:
    """Read the files.

    Args:
        products: table with `id`, `productDisplayName` and the attributes; parquet or csv.
        images: zip or folder of `<id>.jpg`.
        test_products: products to ask about, as far as they have a picture; None = of those in `products` with a
            picture (column `has_image`, in the order of the table) the first 1,500 of a fixed permutation, which
            nothing learns from.
        test_images: their pictures; None = in `images`.
        folder: where decoded pictures are kept; a second call decodes nothing.
        settings: size of the pictures.
        pictured_only: learn from products with a picture alone.
        quick: few products.

    Raises:
        UsageError: a column is missing, a product is in both tables, or none has a picture.
    """
    frame = _table(products)
    if test_products is None:
        pictured = np.flatnonzero(frame["has_image"].to_numpy()) if "has_image" in frame.columns else None
        if pictured is None:
            raise UsageError(f"{products}: no column has_image; add it or give --test-products")
        if len(pictured) < 2:
            raise UsageError(f"{products}: fewer than two products have a picture")
        count = min(QUICK["held"] if quick else HELD, max(1, len(pictured) // 3))
        drawn = pictured[np.random.default_rng(0).permutation(len(pictured))]
        held, rest = drawn[:count], np.setdiff1d(np.arange(frame.height), drawn[:count])
        asked, known = frame[held.tolist()], frame[rest.tolist()]
    else:
        asked, known = _table(test_products), frame
        both = set(asked[ID].to_list()) & set(known[ID].to_list())
        if both:
            raise UsageError(f"{test_products}: {len(both)} products stand in {products} too, such as {min(both)}")
    sources = [images] if test_images is None else [images, test_images]
    if quick and "has_image" in known.columns:
        has = known["has_image"].to_numpy().astype(bool)
        few = [np.flatnonzero(has)[: QUICK["pictured"]], np.flatnonzero(~has)[: QUICK["text-only"]]]
        known = known[np.sort(np.concatenate(few)).tolist()]
    store = ImageStore(folder, settings)
    store.add(sources, {}, also=[*known[ID].to_list(), *asked[ID].to_list()])
    train, test = _part(known, store), _part(asked, store)
    if not len(train.pictured) or not len(test.pictured):
        raise UsageError(f"{' and '.join(map(str, sources))}: no picture of the products to learn from or to ask about")
    return Divided(train.take(train.pictured) if pictured_only else train, test.take(test.pictured))


def _part(frame: pl.DataFrame, store: ImageStore) -> Part:
    shown = frame.select(
        pl.col(ID).alias(schema.PRODUCT_ID), pl.col(TITLE).alias(schema.TITLE), *_held(frame.columns, SHOWN)
    )
    labels = {name: np.array(frame[name].cast(pl.String).to_list(), object) for name in ASKED}
    return Part(catalogue_from_frame(shown, store), labels)


def _held(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    return [name for name in names if name in columns]


def _table(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    for name in (ID, TITLE, *ASKED):
        if name not in frame.columns:
            raise UsageError(f"{path}: no column {name}; it has {', '.join(frame.columns)}")
    frame = frame.with_columns(pl.col(ID).cast(pl.String))
    if "has_image" in frame.columns and frame["has_image"].dtype != pl.Boolean:
        frame = frame.with_columns(pl.col("has_image").cast(pl.String).str.to_lowercase().is_in(["true", "1"]))
    return frame
