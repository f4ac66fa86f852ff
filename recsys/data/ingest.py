"""Validate the tables of one ingest, products before events, and assign images to products.

In: source tables, image archives, product ids of the store. Out: accepted and rejected rows, counts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from recsys.config import DataSettings
from recsys.data import rejected_rows as rejects
from recsys.data import schema
from recsys.data.catalogue import content_hashes
from recsys.data.deduplication import EVENT_KEY
from recsys.data.erased_users import ErasedUsers
from recsys.data.image_store import ImageStore
from recsys.data.input_sources import TABLES, SourceTable
from recsys.data.validation import ValidationResult, validate
from recsys.errors import DataContractError

KEYS: Final = {
    "products": (schema.PRODUCT_ID,),
    "users": (schema.USER_ID,),
    "events": (*EVENT_KEY, schema.LINE_NO),
}
HASHED_COLUMNS: Final = (
    schema.TITLE,
    schema.DESCRIPTION,
    schema.BRAND,
    schema.CATEGORY,
    schema.PRICE,
    schema.CURRENCY,
    schema.AVAILABLE,
    schema.GROUP_ID,
    schema.ATTRIBUTES,
    schema.IMAGE_HASH,
)
"""Columns of the `content_hash` of a product; an image counts by its bytes, not by its name."""


@dataclass(frozen=True)
class IngestResult:
    """Result of one ingest; nothing is written to the store yet (decoded images are in their cache).

    Attributes:
        accepted: table to (a, c) canonical rows, ready for the store.
        rejected: (r, 7) schema.REJECTED_COLUMNS of all sources, images included.
        counts: table to `rows_in, used, rejected, filtered` and the last two by reason; `images` has keys of its own.
        sources: names of all sources, image archives included; their rejected rows of earlier ingests are replaced.
        new_images: products of the store, not among the accepted ones, that have an image now: id to file name.
        warnings: problems that the user should check.
        notes: implicit conversions.
    """

    accepted: dict[str, pl.DataFrame]
    rejected: pl.DataFrame
    counts: dict[str, dict[str, Any]]
    sources: tuple[str, ...] = ()
    new_images: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def ingest(
    parts: Iterable[SourceTable],
    *,
    settings: DataSettings,
    image_store: ImageStore | None = None,
    image_paths: Sequence[Path] = (),
    known_products: Collection[str] = (),
    erased_users: ErasedUsers = ErasedUsers(),  # noqa: B008 - frozen
    now: int | None = None,
) -> IngestResult:
    """Validate all source tables and decode the images.

    Args:
        parts: source tables, from `input_sources` or `sql_queries`.
        settings: decimal mark and the allowed share of rejected rows.
        image_store: the image cache; None skips images (a dry run).
        image_paths: folders and zips of image files.
        known_products: product ids in the store; events may refer to them, images may belong to them.
        erased_users: users whose rows are filtered out.
        now: UTC seconds; the current time by default.

    Raises:
        DataContractError: a table is empty, too many rows are rejected, or there are events but no products.
    """
    timestamp = int(time.time()) if now is None else now
    product_ids = set(known_products)
    log = _IngestLog(settings)
    for part in sorted(parts, key=lambda each: TABLES.index(each.table)):
        if part.table == "events" and not product_ids:
            product_ids = set(log.ids())
            if not product_ids:
                raise DataContractError(
                    f"events: {part.source} has events, but the catalogue is empty; ingest products first, or with them"
                )
        elif part.table == "events":
            product_ids |= set(log.ids())
        checked = validate(
            part.table,
            part.frame(),
            source=part.source,
            settings=settings,
            now=timestamp,
            known_products=product_ids if part.table == "events" else None,
        )
        log.take(part, erased_users.filter_events(checked))
    return log.finish(image_store, image_paths, set(known_products))


class _IngestLog:
    """Collects validation results, counts and messages of all source tables."""

    def __init__(self, settings: DataSettings) -> None:
        self._settings = settings
        self._frames: dict[str, list[pl.DataFrame]] = {}
        self._rejected: list[pl.DataFrame] = [rejects.no_rejected_rows()]
        self._counts: dict[str, dict[str, Any]] = {}
        self._sources: list[str] = []
        self._warnings: list[str] = []
        self._notes: list[str] = []

    def ids(self) -> list[str]:
        """Return the product ids accepted so far."""
        return [text for frame in self._frames.get("products", []) for text in frame[schema.PRODUCT_ID].to_list()]

    def take(self, part: SourceTable, checked: ValidationResult) -> None:
        """Add the validation result of one source table."""
        self._sources.append(part.source)
        self._frames.setdefault(part.table, []).append(checked.accepted)
        self._rejected.append(checked.rejected)
        counts = self._counts.setdefault(
            part.table,
            {"rows_in": 0, "used": 0, "rejected": 0, "filtered": 0, "rejected_by": {}, "filtered_by": {}},
        )
        counts["rows_in"] += checked.rows_in
        counts["used"] += checked.accepted.height
        counts["rejected"] += checked.rejected.height
        for code, number in checked.rejected.group_by("code").len().sort("code").rows():
            counts["rejected_by"][code] = counts["rejected_by"].get(code, 0) + number
        for code, number in checked.filtered.items():
            self._count_filtered(part.table, code, number)
        self._notes.extend(checked.notes)
        self._warnings.extend(checked.warnings)
        if checked.rejected.height:
            reasons = "; ".join(rejects.summary(checked.rejected, decimal=self._settings.decimal))
            self._warnings.append(
                f"{part.table}: {checked.rejected.height:,} of {checked.rows_in:,} rows of {part.source} rejected: "
                f"{reasons}"
            )

    def _count_filtered(self, table: str, code: str, number: int) -> None:
        counts = self._counts[table]
        counts["filtered"] += number
        counts["filtered_by"][code] = counts["filtered_by"].get(code, 0) + number

    def finish(self, pictures: ImageStore | None, images: Sequence[Path], known: set[str]) -> IngestResult:
        """Concatenate the tables, decode the images, and hash the products."""
        accepted: dict[str, pl.DataFrame] = {}
        for table, frames in self._frames.items():
            rows = pl.concat(frames)
            # of rows with equal keys in several sources the last one is used, as if they were ingested one by one
            distinct = rows.unique(list(KEYS[table]), keep="last", maintain_order=True) if len(frames) > 1 else rows
            n_repeated = rows.height - distinct.height
            if n_repeated:
                self._counts[table]["used"] -= n_repeated
                self._count_filtered(table, "given_again", n_repeated)
            accepted[table] = distinct
        new_images: dict[str, str] = {}
        if images and pictures is not None:
            new_images = self._add_images(accepted, pictures, images, known)
        elif "products" in accepted:
            n_named = accepted["products"][schema.IMAGE].count()
            if n_named and pictures is not None and not images:
                self._warnings.append(f"products: {n_named:,} name an image, but no images were given (--images)")
        if "products" in accepted:
            accepted["products"] = add_content_hashes(accepted["products"], pictures)
        rejected = pl.concat(self._rejected)
        return IngestResult(
            accepted,
            rejected,
            self._counts,
            tuple(self._sources),
            new_images,
            tuple(self._warnings),
            tuple(self._notes),
        )

    def _add_images(
        self, accepted: dict[str, pl.DataFrame], pictures: ImageStore, images: Sequence[Path], known: set[str]
    ) -> dict[str, str]:
        """Decode the images; products without an image name get the file named like their id."""
        products = accepted.get("products")
        names: dict[str, str] = {}
        accepted_ids: set[str] = set()
        if products is not None:
            accepted_ids = set(products[schema.PRODUCT_ID].to_list())
            with_name = products.filter(pl.col(schema.IMAGE).is_not_null())
            names = dict(with_name.select(schema.PRODUCT_ID, schema.IMAGE).iter_rows())
        source = ", ".join(f"{path.resolve().parent.name}/{path.name}" for path in images)
        self._sources.append(source)
        added = pictures.add(images, names, also=accepted_ids | known, source_name=source)
        self._rejected.append(added.problems)
        codes = dict(added.problems.group_by("code").len().sort("code").rows())
        self._counts["images"] = {
            "found": len(added.used) + added.problems.height,
            "used": len(added.used),
            "decoded": added.decoded,
            "unchanged": added.unchanged,
            "rejected": added.problems.height,
            "rejected_by": codes,
        }
        if added.problems.height:
            reasons = "; ".join(rejects.summary(added.problems))
            self._warnings.append(
                f"images: {added.problems.height:,} cannot be used, their products have no image: {reasons}"
            )
        if products is not None and added.used:
            files = pl.DataFrame(list(added.used.items()), schema=[schema.PRODUCT_ID, "__file__"], orient="row")
            accepted["products"] = (
                products.join(files, on=schema.PRODUCT_ID, how="left", maintain_order="left")
                .with_columns(pl.coalesce(schema.IMAGE, "__file__").alias(schema.IMAGE))
                .drop("__file__")
            )
        return {product: name for product, name in sorted(added.used.items()) if product not in accepted_ids}


def add_content_hashes(products: pl.DataFrame, image_store: ImageStore | None) -> pl.DataFrame:
    """Add the `content_hash` of each product; `image_store` has the hash of its image."""
    ids = products[schema.PRODUCT_ID].to_list()
    hashes = [image_store.hash_of(text) if image_store is not None else None for text in ids]
    hashed = products.with_columns(pl.Series(schema.IMAGE_HASH, hashes, dtype=pl.String))
    texts = [f"{number:016x}" for number in content_hashes(hashed, HASHED_COLUMNS).tolist()]
    return products.with_columns(pl.Series(schema.CONTENT_HASH, texts, dtype=pl.String))
