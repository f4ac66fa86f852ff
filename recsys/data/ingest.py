"""Judging everything of one ingest together: products before events, pictures to their products.

In: parts of sources, albums of pictures, what the store knows already. Out: accepted and rejected rows, counts.
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
HASHED: Final = (
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
"""What a product's `content_hash` covers; the picture counts by its bytes, not by its name."""


@dataclass(frozen=True)
class IngestResult:
    """What one ingest came to; nothing is written to the store yet (pictures are in their cache).

    Attributes:
        accepted: table to (a, c) canonical rows, ready for the store.
        rejected: (r, 7) schema.REJECTED_COLUMNS of all sources, pictures included.
        counts: table to `rows_in, used, rejected, filtered` and the last two by reason; `images` to its own.
        sources: names of everything that was read, albums included; what is kept of an earlier reading is replaced.
        pictured: known products that are not among the accepted ones and have a picture file now: id to file name.
        warnings: what a person should look at.
        notes: what was understood in silence.
    """

    accepted: dict[str, pl.DataFrame]
    rejected: pl.DataFrame
    counts: dict[str, dict[str, Any]]
    sources: tuple[str, ...] = ()
    pictured: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def ingest(
    parts: Iterable[SourceTable],
    *,
    settings: DataSettings,
    pictures: ImageStore | None = None,
    images: Sequence[Path] = (),
    known_products: Collection[str] = (),
    forgotten: ErasedUsers = ErasedUsers(),  # noqa: B008 - frozen
    now: int | None = None,
) -> IngestResult:
    """Check all parts and decode the pictures.

    Args:
        parts: as `sources.read`, `read_sql` or `of_frames` give them.
        settings: decimal mark, share of rejects allowed.
        pictures: the picture cache; None = pictures are not looked at (a dry run).
        images: folders and zips of pictures.
        known_products: ids in the store already; events may name them, pictures may belong to them.
        forgotten: users whose rows are left out.
        now: UTC seconds; default the clock.

    Raises:
        DataContractError: an empty table, too many rejects, or events while no product is known at all.
    """
    moment = int(time.time()) if now is None else now
    known = set(known_products)
    book = _IngestLog(settings)
    for part in sorted(parts, key=lambda each: TABLES.index(each.table)):
        if part.table == "events" and not known:
            known = set(book.ids())
            if not known:
                raise DataContractError(
                    f"events: {part.source} has events, but the catalogue is empty; ingest products first, or with them"
                )
        elif part.table == "events":
            known |= set(book.ids())
        checked = validate(
            part.table,
            part.frame(),
            source=part.source,
            settings=settings,
            now=moment,
            known_products=known if part.table == "events" else None,
        )
        book.take(part, forgotten.filter_events(checked))
    return book.finish(pictures, images, set(known_products))


class _IngestLog:
    """Collects what the checks found, table by table."""

    def __init__(self, settings: DataSettings) -> None:
        self._settings = settings
        self._frames: dict[str, list[pl.DataFrame]] = {}
        self._rejected: list[pl.DataFrame] = [rejects.no_rejected_rows()]
        self._counts: dict[str, dict[str, Any]] = {}
        self._sources: list[str] = []
        self._warnings: list[str] = []
        self._notes: list[str] = []

    def ids(self) -> list[str]:
        """Product ids accepted so far."""
        return [text for frame in self._frames.get("products", []) for text in frame[schema.PRODUCT_ID].to_list()]

    def take(self, part: SourceTable, checked: ValidationResult) -> None:
        """Enter one checked part."""
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
            self._filter(part.table, code, number)
        self._notes.extend(checked.notes)
        self._warnings.extend(checked.warnings)
        if checked.rejected.height:
            reasons = "; ".join(rejects.summary(checked.rejected, decimal=self._settings.decimal))
            self._warnings.append(
                f"{part.table}: {checked.rejected.height:,} of {checked.rows_in:,} rows of {part.source} rejected: "
                f"{reasons}"
            )

    def _filter(self, table: str, code: str, number: int) -> None:
        counts = self._counts[table]
        counts["filtered"] += number
        counts["filtered_by"][code] = counts["filtered_by"].get(code, 0) + number

    def finish(self, pictures: ImageStore | None, images: Sequence[Path], known: set[str]) -> IngestResult:
        """Join the parts, bring in the pictures, and hash the products."""
        accepted: dict[str, pl.DataFrame] = {}
        for table, frames in self._frames.items():
            whole = pl.concat(frames)
            # of rows with the same key in several sources the last one counts, as if they were ingested one by one
            kept = whole.unique(list(KEYS[table]), keep="last", maintain_order=True) if len(frames) > 1 else whole
            again = whole.height - kept.height
            if again:
                self._counts[table]["used"] -= again
                self._filter(table, "given_again", again)
            accepted[table] = kept
        pictured: dict[str, str] = {}
        if images and pictures is not None:
            pictured = self._pictures(accepted, pictures, images, known)
        elif "products" in accepted:
            named = accepted["products"][schema.IMAGE].count()
            if named and pictures is not None and not images:
                self._warnings.append(f"products: {named:,} name a picture, but no pictures were given (--images)")
        if "products" in accepted:
            accepted["products"] = add_content_hashes(accepted["products"], pictures)
        rejected = pl.concat(self._rejected)
        return IngestResult(
            accepted, rejected, self._counts, tuple(self._sources), pictured, tuple(self._warnings), tuple(self._notes)
        )

    def _pictures(
        self, accepted: dict[str, pl.DataFrame], pictures: ImageStore, images: Sequence[Path], known: set[str]
    ) -> dict[str, str]:
        """Decode the albums; products without an image name get the file named like them."""
        products = accepted.get("products")
        names: dict[str, str] = {}
        there: set[str] = set()
        if products is not None:
            there = set(products[schema.PRODUCT_ID].to_list())
            named = products.filter(pl.col(schema.IMAGE).is_not_null())
            names = dict(named.select(schema.PRODUCT_ID, schema.IMAGE).iter_rows())
        source = ", ".join(f"{path.resolve().parent.name}/{path.name}" for path in images)
        self._sources.append(source)
        added = pictures.add(images, names, also=there | known, source_name=source)
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
                f"images: {added.problems.height:,} cannot be used, their products go on without: {reasons}"
            )
        if products is not None and added.used:
            found = pl.DataFrame(list(added.used.items()), schema=[schema.PRODUCT_ID, "__file__"], orient="row")
            accepted["products"] = (
                products.join(found, on=schema.PRODUCT_ID, how="left", maintain_order="left")
                .with_columns(pl.coalesce(schema.IMAGE, "__file__").alias(schema.IMAGE))
                .drop("__file__")
            )
        return {product: name for product, name in sorted(added.used.items()) if product not in there}


def add_content_hashes(products: pl.DataFrame, pictures: ImageStore | None) -> pl.DataFrame:
    """Give each product its `content_hash`; the cache knows the bytes of its picture."""
    ids = products[schema.PRODUCT_ID].to_list()
    hashes = [pictures.hash_of(text) if pictures is not None else None for text in ids]
    seen = products.with_columns(pl.Series(schema.IMAGE_HASH, hashes, dtype=pl.String))
    texts = [f"{number:016x}" for number in content_hashes(seen, HASHED).tolist()]
    return products.with_columns(pl.Series(schema.CONTENT_HASH, texts, dtype=pl.String))
