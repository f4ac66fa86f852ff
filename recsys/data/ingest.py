"""Validate the tables of one ingest, products before events, and assign images to products.

In: source tables, image archives, product ids of the store. Out: accepted and rejected rows, counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from recsys.config import DataSettings
from recsys.data import rejected_rows as rejects
from recsys.data import schema
from recsys.data.assumptions import Assumptions, assumption_messages
from recsys.data.catalogue import content_hashes
from recsys.data.deduplication import EVENT_KEY
from recsys.data.erased_users import ErasedUsers
from recsys.data.image_store import ImageStore
from recsys.data.input_sources import TABLES, SourceTable
from recsys.data.merging import complete_rows
from recsys.data.validation import ValidationResult, validate

KEYS: Final = {
    "products": (schema.PRODUCT_ID,),
    "users": (schema.USER_ID,),
    "events": (*EVENT_KEY, schema.LINE_NO),
}
_MAX_MISSING: Final = 0.5
"""Share of the stored products that a complete catalogue lacks at most; above it the rows are a partial update."""
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
        kept_event_columns: columns that no source of events has, so that stored events keep their values.
        warnings: problems that the user should check.
        notes: implicit conversions.
    """

    accepted: dict[str, pl.DataFrame]
    rejected: pl.DataFrame
    counts: dict[str, dict[str, Any]]
    sources: tuple[str, ...] = ()
    new_images: dict[str, str] = field(default_factory=dict)
    kept_event_columns: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


StoredRows = Callable[[str], pl.DataFrame]
"""Returns the stored rows of `products` or `users`, canonical columns."""


def ingest(
    parts: Iterable[SourceTable],
    *,
    settings: DataSettings,
    stored: StoredRows | None = None,
    replace: Collection[str] = (),
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
        stored: source of stored values for the columns that a source lacks; None = there are no stored rows.
        replace: tables that the sources replace, so that nothing stored is kept.
        image_store: the image cache; None skips images (a dry run).
        image_paths: folders and zips of image files.
        known_products: product ids in the store; events may refer to them, images may belong to them.
        erased_users: users whose rows are filtered out.
        now: UTC seconds; the current time by default.

    Raises:
        DataContractError: a table is empty, or too many rows are rejected.
    """
    timestamp = int(time.time()) if now is None else now
    parts = sorted(parts, key=lambda each: TABLES.index(each.table))
    stored_ids = set(known_products)
    product_ids = stored_ids.copy()
    log = _IngestLog(settings, stored, replace)
    for part in parts:
        frame = part.frame()
        if part.table == "events":
            product_ids |= set(log.ids())
            if not product_ids and frame.height:
                log.warnings.append(
                    f"products: there is no catalogue, so it is made of the product ids of {part.source}; products "
                    "without text and image cannot be compared by content: ingest products, too"
                )
                log.uses_event_products = True
        checked = validate(
            part.table,
            frame,
            source=part.source,
            settings=settings,
            now=timestamp,
            known_products=product_ids if part.table == "events" and not log.uses_event_products else None,
            allow_empty=len(parts) > 1 or bool(stored_ids),
        )
        log.take(part, erased_users.filter_events(checked))
    log.warn_about_missing_products(stored_ids)
    return log.finish(image_store, image_paths, stored_ids)


class _IngestLog:
    """Collects validation results, counts and messages of all source tables."""

    def __init__(self, settings: DataSettings, stored: StoredRows | None, replace: Collection[str]) -> None:
        self._settings, self._stored, self._replace = settings, stored, replace
        self._results: dict[str, list[ValidationResult]] = {}
        self._rejected: list[pl.DataFrame] = [rejects.no_rejected_rows()]
        self._counts: dict[str, dict[str, Any]] = {}
        self._sources: list[str] = []
        self.warnings: list[str] = []
        self._notes: list[str] = []
        self.uses_event_products = False
        self._assumptions: dict[str, Assumptions] = {}

    def ids(self) -> list[str]:
        """Return the product ids accepted so far."""
        frames = [result.accepted for result in self._results.get("products", [])]
        return [text for frame in frames for text in frame[schema.PRODUCT_ID].to_list()]

    def take(self, part: SourceTable, checked: ValidationResult) -> None:
        """Add the validation result of one source table."""
        self._sources.append(part.source)
        self._results.setdefault(part.table, []).append(checked)
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
        self._notes.extend(f"{part.source}: {note} ({number:,})" for note, number in part.notes.items())
        self._assumptions.setdefault(part.table, Assumptions()).update(checked.assumptions)
        self.warnings.extend(checked.extra_warnings)
        if checked.bad_cells.height:
            reasons = "; ".join(rejects.summary(checked.bad_cells, decimal=self._settings.decimal))
            counts["bad_cells"] = counts.get("bad_cells", 0) + checked.bad_cells.height
            self.warnings.append(
                f"{part.table}: {checked.bad_cells.height:,} cells of {part.source} cannot be read and are left empty: "
                f"{reasons}"
            )
        if checked.rejected.height:
            reasons = "; ".join(rejects.summary(checked.rejected, decimal=self._settings.decimal))
            self.warnings.append(
                f"{part.table}: {checked.rejected.height:,} of {checked.rows_in:,} rows of {part.source} rejected: "
                f"{reasons}"
            )

    def _count_filtered(self, table: str, code: str, number: int) -> None:
        counts = self._counts[table]
        counts["filtered"] += number
        counts["filtered_by"][code] = counts["filtered_by"].get(code, 0) + number

    def warn_about_missing_products(self, stored_ids: Collection[str]) -> None:
        """Warn if a catalogue that looks complete lacks products of the store."""
        new_ids = set(self.ids())
        if not new_ids or "products" in self._replace:
            return
        n_missing = len(set(stored_ids) - new_ids)
        if 0 < n_missing <= _MAX_MISSING * len(stored_ids):
            self.warnings.append(
                f"products: {n_missing:,} products of the store are not among the {len(new_ids):,} ingested ones and "
                "stay available; if they left the shop, ingest the catalogue with --replace products"
            )

    def finish(self, image_store: ImageStore | None, image_paths: Sequence[Path], known: set[str]) -> IngestResult:
        """Merge the sources, decode the images, and hash the products."""
        accepted = {table: self._merge(table, results) for table, results in self._results.items()}
        if self.uses_event_products:
            accepted = {"products": products_of_events(accepted["events"]), **accepted}
        new_images: dict[str, str] = {}
        if image_paths and image_store is not None:
            new_images = self._add_images(accepted, image_store, image_paths, known)
        elif "products" in accepted:
            n_named = accepted["products"][schema.IMAGE].count()
            if n_named and image_store is not None and not image_paths:
                self.warnings.append(f"products: {n_named:,} name an image, but no images were given (--images)")
        if "products" in accepted:
            accepted["products"] = add_content_hashes(accepted["products"], image_store)
        for table, assumptions in self._assumptions.items():
            notes, warnings = assumption_messages(table, assumptions)
            self._notes += notes
            self.warnings += warnings
        event_columns = [set(result.columns.lacks("events")) for result in self._results.get("events", [])]
        return IngestResult(
            accepted,
            pl.concat(self._rejected),
            self._counts,
            tuple(self._sources),
            new_images,
            tuple(sorted(set.intersection(*event_columns))) if event_columns else (),
            tuple(self.warnings),
            tuple(self._notes),
        )

    def _merge(self, table: str, results: Sequence[ValidationResult]) -> pl.DataFrame:
        """Merge the rows of all sources of a table, as if the sources were ingested one by one."""
        if table == "events":
            rows = pl.concat([result.accepted for result in results])
            distinct = rows.unique(list(KEYS[table]), keep="last", maintain_order=True) if len(results) > 1 else rows
            self._count_repeated(table, rows.height - distinct.height)
            return distinct
        key = KEYS[table][0]
        is_complete = all(result.columns.is_complete(table) for result in results)
        before = pl.DataFrame(schema=results[0].accepted.schema)
        if self._stored is not None and table not in self._replace and not is_complete:
            before = self._stored(table).select(before.columns).cast(before.schema)
        merged, previous = before.clear(), results[0].columns
        for result in results:
            repeated = merged.filter(pl.col(key).is_in(result.accepted[key].implode()))
            if result.columns.covers(previous):
                self._count_repeated(table, repeated.height)
            others = before.filter(~pl.col(key).is_in(merged[key].implode()))
            rows = complete_rows(table, result.accepted, pl.concat([merged, others]), result.columns)
            merged = pl.concat([merged.filter(~pl.col(key).is_in(rows[key].implode())), rows])
            previous = result.columns
        return merged

    def _count_repeated(self, table: str, number: int) -> None:
        """Count rows that rows of a later source replace."""
        if number:
            self._counts[table]["used"] -= number
            self._count_filtered(table, "given_again", number)

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
        if added.unused:
            self._counts["images"]["unused"] = len(added.unused)
            self.warnings += unused_warnings(added.unused)
        if added.problems.height:
            reasons = "; ".join(rejects.summary(added.problems))
            self.warnings.append(
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


def unused_warnings(unused: Mapping[str, str], *, limit: int = 5) -> list[str]:
    """Return one line for each reason why image files are not used.

    Args:
        unused: file to reason.
        limit: number of files named in a line.
    """
    by_reason: dict[str, list[str]] = {}
    for name, reason in unused.items():
        by_reason.setdefault(reason, []).append(name)
    lines = []
    for reason, names in by_reason.items():
        further = f" and {len(names) - limit:,} more" if len(names) > limit else ""
        lines.append(f"images: {len(names):,} files are not used, {reason}: {', '.join(names[:limit])}{further}")
    return lines


def products_of_events(events: pl.DataFrame) -> pl.DataFrame:
    """Return products of which only the ids are known."""
    ids = events[schema.PRODUCT_ID].unique().sort()
    columns = {column.name: column for column in schema.PRODUCTS}
    dtypes = {"number": pl.Float64, "bool": pl.Boolean, "time": pl.Int64}
    data = [
        ids
        if name == schema.PRODUCT_ID
        else pl.repeat(None, len(ids), dtype=dtypes.get(column.kind, pl.String), eager=True).alias(name)
        for name, column in columns.items()
    ]
    return pl.DataFrame(data).with_columns(pl.lit(value=True).alias(schema.AVAILABLE))


def add_content_hashes(products: pl.DataFrame, image_store: ImageStore | None) -> pl.DataFrame:
    """Add the `content_hash` of each product; `image_store` has the hash of its image."""
    ids = products[schema.PRODUCT_ID].to_list()
    hashes = [image_store.hash_of(text) if image_store is not None else None for text in ids]
    hashed = products.with_columns(pl.Series(schema.IMAGE_HASH, hashes, dtype=pl.String))
    texts = [f"{number:016x}" for number in content_hashes(hashed, HASHED_COLUMNS).tolist()]
    return products.with_columns(pl.Series(schema.CONTENT_HASH, texts, dtype=pl.String))
