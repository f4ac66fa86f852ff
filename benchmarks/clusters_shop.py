"""The products that are grouped, with vectors from elsewhere or from a model trained here, and the labels nobody saw.

In: the files of the catalogue; vectors by path, or how to train. Out: `Grouped`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from fashion_shop import ID, opened
from representation_parts import Divided, Labels, Part
from representation_systems import SMALL_PIXELS
from representation_training import settings_for, trained
from telling import say

from recsys.config import ImageSettings
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.data.image_store import ImageStore
from recsys.errors import UsageError
from recsys.types import FloatArray
from recsys.vectors.embeddings.table import EmbeddingTable

LABELS = ("articleType", "subCategory")
VIEWS: dict[str, tuple[str, ...] | None] = {"all": None, "text": ("text",), "image": ("image",)}


@dataclass(frozen=True)
class Grouped:
    """n products with a picture.

    Attributes:
        catalogue: what methods may see.
        labels: (n,) by name, what they may not.
        views: vectors (n, d) of the encoder, from all it sees, from texts alone, from pictures alone.
        small: pictures at 48 pixels.
        learned: what is known about the training.
    """

    catalogue: Catalogue
    labels: Labels
    views: dict[str, FloatArray] = field(repr=False)
    small: Images = field(repr=False)
    learned: dict[str, object]

    @property
    def texts(self) -> list[str]:
        """The titles."""
        return Part(self.catalogue, {}).texts


def grouped(asked: argparse.Namespace, work: Path) -> Grouped:
    """Read the products and their vectors; train where none are given.

    Raises:
        UsageError: a file or column is missing, or hardly a product has a vector.
    """
    if asked.embeddings and asked.vectors:
        raise UsageError("give --embeddings or --vectors, not both")
    settings = settings_for(asked, seed=asked.seed)
    shop = opened(asked, work, settings.images, pictured_only=asked.pictured_only)
    known = shop.train.take(shop.train.pictured)
    ids = [*known.catalogue.ids.texts, *shop.test.catalogue.ids.texts]
    if asked.embeddings or asked.vectors:
        held, vectors = _from_elsewhere(asked)
        place = {product: row for row, product in enumerate(held)}
        rows = np.array([row for row, product in enumerate(ids) if product in place])
        if len(rows) < 20:
            raise UsageError(f"only {len(rows)} of the products with a picture have a vector")
        views = {"all": vectors[[place[ids[row]] for row in rows]]}
        ids, learned = [ids[row] for row in rows], {"given": str(asked.embeddings or asked.vectors)}
    else:
        views, learned = _from_training(asked, shop, work)
    store = ImageStore(work / f"pictures-{SMALL_PIXELS}", ImageSettings(size=SMALL_PIXELS))
    store.add([asked.images], {}, also=ids)
    whole = _catalogue(shop, ids)
    return Grouped(whole, _labels(asked.products, ids), views, store.images(whole.ids), learned)


def _from_elsewhere(asked: argparse.Namespace) -> tuple[list[str], FloatArray]:
    if asked.embeddings:
        table = EmbeddingTable.load(asked.embeddings)
        return list(table.ids.texts), np.asarray(table.vectors)
    if not asked.vectors.is_file():
        raise UsageError(f"{asked.vectors}: no such file")
    frame = pl.read_parquet(asked.vectors)
    if not {"product_id", "vector"} <= set(frame.columns):
        raise UsageError(f"{asked.vectors}: columns product_id and vector (a list of numbers) are needed")
    vectors = np.stack(frame["vector"].to_list()).astype(np.float32)
    return frame["product_id"].to_list(), vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _from_training(
    asked: argparse.Namespace, shop: Divided, work: Path
) -> tuple[dict[str, FloatArray], dict[str, object]]:
    settings = settings_for(asked, seed=asked.seed)
    model, seconds = trained(shop.train.catalogue, shop.nobody, settings, work / "training", resume=asked.resume)
    say(f"trained in {seconds:.0f} s")
    parts = ((shop.train.catalogue, shop.train.pictured), (shop.test.catalogue, np.arange(len(shop.test))))
    views = {
        view: np.concatenate([model.encode(catalogue, rows, modalities=seen) for catalogue, rows in parts])
        for view, seen in VIEWS.items()
    }
    return views, {"model": model.version, "seconds": round(seconds, 1), "seed": asked.seed}


def _catalogue(shop: Divided, ids: list[str]) -> Catalogue:
    """One catalogue of both parts, in the order of `ids`; its pictures are not asked for again."""
    frame = pl.concat([shop.train.catalogue.frame, shop.test.catalogue.frame], how="diagonal_relaxed")
    frame = pl.DataFrame({"product_id": ids}).join(frame, on="product_id", how="left", maintain_order="left")
    return Catalogue(IdMap(ids), frame, np.ones(len(ids), np.bool_), Images.empty(len(ids)))


def _labels(products: Path, ids: list[str]) -> Labels:
    frame = pl.read_parquet(products) if products.suffix == ".parquet" else pl.read_csv(products, infer_schema=False)
    for name in LABELS:
        if name not in frame.columns:
            raise UsageError(f"{products}: no column {name}; it has {', '.join(frame.columns)}")
    order = pl.DataFrame({ID: ids}).join(
        frame.with_columns(pl.col(ID).cast(pl.String)), on=ID, how="left", maintain_order="left"
    )
    return {name: np.array(order[name].cast(pl.String).fill_null("").to_list(), object) for name in LABELS}
