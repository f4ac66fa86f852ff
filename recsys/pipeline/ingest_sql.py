"""Ingests a shop's database in batches; each batch is validated and committed together with a watermark.

In: an open project, source queries, an open `SourceReader`. Out: rows in the store, an advanced watermark, counts of
all rows. An interrupted ingestion keeps the rows it has written, and the next one resumes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data import merging, schema
from recsys.data.dataset import load_input_table
from recsys.data.deduplication import Deduplicator, warn_similar_ids
from recsys.data.file_readers import ROW
from recsys.data.ingest import add_content_hashes, products_of_events
from recsys.data.rejected_rows import no_rejected_rows
from recsys.data.row_counts import Counts, RowCounts
from recsys.data.sql_queries import SourceQuery
from recsys.data.validation import ValidationResult, raise_for_empty_table, validate_batch
from recsys.db.source_reader import SourceReader
from recsys.errors import DataContractError, TemporaryError, UsageError
from recsys.execution.progress import Progress
from recsys.execution.signals import defer_signals
from recsys.pipeline.project import Project
from recsys.store import watermarks
from recsys.store.erasure import load_erased_users
from recsys.store.input_tables import key_hashes, remove_unlisted_rows, write_inputs
from recsys.store.watermarks import Watermark


@dataclass
class IngestCounts:
    """Counts, warnings and notes of an ingestion."""

    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class SqlIngestion:
    """One ingestion of a source, table by table, products first.

    Args:
        project: the project.
        reader: the open source.
        known: ids of the products in the store.
        full: read all rows, not only new ones.
        write: False = validate only.
        progress: receives the number of rows read so far.
    """

    def __init__(
        self, project: Project, reader: SourceReader, *, known: pl.Series, full: bool, write: bool, progress: Progress
    ) -> None:
        self.project, self.reader, self.full, self.write, self.progress = project, reader, full, write, progress
        self.known = known
        self.erased_users = load_erased_users(project.store)
        self.now = int(time.time())
        self.rows = 0
        self.result = IngestCounts()
        self.uses_event_products = False
        """Whether the catalogue is made of the products of the events, because there is no other."""
        self.listed: dict[str, list[npt.NDArray[np.uint64]]] = {}

    def read_table(self, query: SourceQuery) -> None:
        """Ingest all rows of one table.

        Raises:
            DataContractError: it is empty, or too many rows are rejected (batches written before the end stay).
            UsageError: the database refuses the query, or the query does not fit the table.
            TemporaryError: the connection was lost; the rows read so far stay, and the next ingestion resumes.
        """
        if query.table != "events" or self.known.len():
            self.uses_event_products = False
        elif self.uses_event_products:
            self.result.warnings.append(
                f"products: there is no catalogue, so it is made of the product ids of {query.source}; products "
                "without text and image cannot be compared by content: add [source] products_query"
            )
        else:
            raise DataContractError(
                f"events: {query.source} has events, but the catalogue is empty; ingest products first, or with them"
            )
        fingerprint = query.fingerprint(self.reader)
        watermark = Watermark(query.source, fingerprint)
        if query.incremental and not self.full:
            watermark = watermarks.read_watermark(self.project.store, query.source, fingerprint)
            if (
                watermark.newest is None
                and watermark.reached is None
                and watermarks.has_watermark(self.project.store, query.source)
            ):
                self.result.notes.append(
                    f"{query.table}: another query or database than last time, read from the start"
                )
        self.listed[query.table] = []
        table = _TableIngestion(self, query, watermark)
        batches = query.frames(self.reader, since=table.since, batch=self.project.settings.source.batch_rows)
        try:
            for frame, last in _mark_last(batches):
                table.ingest_batch(frame, last=last)
                self.rows += frame.height
                self.progress(self.rows, self.rows)
        except (DataContractError, UsageError):
            table.reset_watermark()
            raise
        self.result.counts[query.table] = table.row_counts.counts
        notes, warnings = table.messages()
        self.result.notes += notes
        self.result.warnings += warnings
        if query.table == "products":
            ids = pl.concat([self.known.clear(), *table.ids])
            self.result.warnings += warn_similar_ids(ids)
            self.known = pl.concat([self.known, ids]).unique()

    def remove_unlisted(self) -> None:
        """Remove the stored rows that the tables read do not have; the queries were read completely."""
        listed = {table: np.concatenate([np.zeros(0, np.uint64), *hashes]) for table, hashes in self.listed.items()}
        sentences = {
            "products": "{number:,} products are not in the source and are not available any more",
            "events": "{number:,} events that are not in the source were deleted",
            "users": "{number:,} users that are not in the source were deleted",
        }
        for table, number in remove_unlisted_rows(self.project.store, listed).items():
            if number:
                self.result.notes.append(sentences[table].format(number=number))


class _TableIngestion:
    """Ingestion of one table."""

    def __init__(self, ingestion: SqlIngestion, query: SourceQuery, watermark: Watermark) -> None:
        self.ingestion, self.query, self.watermark = ingestion, query, watermark
        settings = ingestion.project.settings
        self.start = watermark.newest if watermark.reached is None else watermark.reached
        overlap = int(settings.source.overlap_hours * 3600)
        self.since = 0 if self.start is None else max(0, self.start - overlap)
        self.row_counts = RowCounts(query.table, query.source, settings.data)
        if watermark.reached is not None:
            self.row_counts.start_from(watermark.counts)
        self.ids: list[pl.Series] = []
        self._deduplicator = Deduplicator(query.table)
        self._first_batch, self._watermark_moved = True, False
        self._newest: int | None = None  # of the rows read by this ingestion
        self._reached, self._counts_before_reached = watermark.reached, dict(watermark.counts)
        self._is_past_reached = watermark.reached is None
        self._reread_rows = self._image_count = 0
        self._stored: pl.DataFrame | None = None

    def ingest_batch(self, frame: pl.DataFrame, *, last: bool) -> None:
        """Validate and write one batch of raw rows."""
        stamps = self.query.stamps(frame)
        if not self._is_past_reached:
            frame, stamps = self._skip_counted(frame, stamps)
        result = self._validate(frame, self.row_counts.counts["rows_in"] + 1)
        self._advance(result, stamps)
        self.row_counts.add(result)
        if last:
            self._require_valid_rows()
        self._write(result, self._next_watermark(last=last))

    def reset_watermark(self) -> None:
        """Let the next ingestion start where this one started: the rows read may be unordered or incomplete."""
        if self._watermark_moved:
            watermarks.set_watermark(self.ingestion.project.store, replace(self.watermark, reached=None, counts={}))

    def messages(self) -> tuple[list[str], list[str]]:
        """Return notes and warnings."""
        notes, warnings = self.row_counts.messages()
        table, start = self.query.table, self.start
        if start is not None:
            how = "an interrupted reading went on at" if self.watermark.reached is not None else "newest known"
            notes.append(f"{table}: read from {_format_time(self.since)} on ({how} {_format_time(start)})")
        if self._reread_rows:
            notes.append(f"{table}: {self._reread_rows:,} rows before it were read a second time and are counted once")
        if start is not None and not (self.row_counts.counts["rows_in"] or self._reread_rows):
            warnings.append(
                f"{table}: no row since {_format_time(self.since)}, although one of {_format_time(start)} is known; "
                "see whether the query compares its time with :since in the same form, or read everything with --full"
            )
        if self._image_count:
            warnings.append(f"products: {self._image_count:,} name an image, but no images were given (--images)")
        return notes, warnings

    def _skip_counted(self, frame: pl.DataFrame, stamps: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
        """Exclude rows counted before the interruption from the counts; they are written again all the same."""
        first = _first_true(stamps >= self.watermark.reached)
        self._is_past_reached = first is not None
        end = frame.height if first is None else first
        if end:
            result = self._validate(frame[:end], 1)
            self._check_order(result)
            self._reread_rows += end
            self._write_rows(self._complete_rows(result), result.columns.lacks(self.query.table))
        return frame[end:], stamps[end:]

    def _validate(self, frame: pl.DataFrame, start: int) -> ValidationResult:
        numbered = frame.with_columns(pl.int_range(start, start + pl.len(), dtype=pl.Int64).alias(ROW))
        result = validate_batch(
            self.query.table,
            self.query.to_canonical(numbered),
            source=self.query.source,
            settings=self.ingestion.project.settings.data,
            now=self.ingestion.now,
            known_products=self._known_products(),
            deduplicator=self._deduplicator,
        )
        return self.ingestion.erased_users.filter_events(result)

    def _known_products(self) -> pl.Series | None:
        if self.query.table != "events" or self.ingestion.uses_event_products:
            return None
        return self.ingestion.known

    def _advance(self, result: ValidationResult, stamps: pl.Series) -> None:
        """Record the newest row and, if rows come ordered by time, up to which moment they are complete."""
        if not self.query.ordered:
            newest = stamps.filter(stamps <= self.ingestion.now + 86_400).max()
            self._newest = _newer(self._newest, newest)
            return
        self._check_order(result)
        if result.accepted.height and self._newest != self._reached:
            first = _first_true(stamps == self._newest) or 0
            self._counts_before_reached = self.row_counts.counts_before(
                result, before=self.row_counts.counts["rows_in"] + 1 + first
            )
            self._reached = self._newest

    def _check_order(self, result: ValidationResult) -> None:
        """Check the order of the rows, and keep the deduplicator to the newest moment.

        Raises:
            UsageError: the rows are not ordered by time.
        """
        times = result.accepted[schema.OCCURRED_AT]
        if not times.len():
            return
        previous, newest = self._newest, int(times[-1])
        if not times.is_sorted() or (previous is not None and times[0] < previous):
            raise UsageError(
                "events: sorted by occurred_at the rows are not in order of time, so the column is written in several "
                "forms; make it one in the SELECT (SQL: CAST(... AS TIMESTAMP), SQLite: datetime(...))"
            )
        self._newest = newest
        if newest != previous:
            self._deduplicator.reset_to(result.accepted.filter(times == newest))

    def _require_valid_rows(self) -> None:
        self.row_counts.raise_if_too_many_rejects()
        if self.start is None and not self.row_counts.counts["rows_in"]:
            advice = "see whether the query compares its time with :since in the same form"
            general_advice = "check the query"
            raise_for_empty_table(
                self.query.table, source=self.query.source, advice=advice if self.query.incremental else general_advice
            )

    def _next_watermark(self, *, last: bool) -> Watermark | None:
        if not self.query.incremental:
            return None
        if last:
            newest = None if self._newest is None else min(self._newest, self.ingestion.now)
            return Watermark(self.watermark.source, self.watermark.fingerprint, _newer(self.watermark.newest, newest))
        if self.query.ordered and self._reached is not None:
            return replace(self.watermark, reached=self._reached, counts=self._counts_before_reached)
        return None

    def _write(self, result: ValidationResult, watermark: Watermark | None) -> None:
        accepted = self._complete_rows(result)
        if not self.ingestion.write:
            return
        if self.ingestion.full:
            self.ingestion.listed[self.query.table].append(key_hashes(self.query.table, accepted))
        if self.query.table == "events" and self.ingestion.uses_event_products:
            self._write_event_products(accepted)
        counts: Counts = dict(self.watermark.counts) if self.watermark.reached is not None else {}
        with defer_signals():
            watermarks.write_batch(
                self.ingestion.project.store,
                self.query.table,
                accepted,
                result.rejected,
                source=self.query.source,
                delete_rejected_after=int(counts.get("rows_in", 0)) if self._first_batch else None,
                watermark=watermark,
                keep=result.columns.lacks(self.query.table),
            )
        self._first_batch, self._watermark_moved = False, self._watermark_moved or watermark is not None

    def _write_event_products(self, events: pl.DataFrame) -> None:
        """Add the products of events that are not in the catalogue yet."""
        products = products_of_events(events)
        new = products.filter(~pl.col(schema.PRODUCT_ID).is_in(self.ingestion.known.implode()))
        if new.height:
            hashed = add_content_hashes(new, self.ingestion.project.images)
            write_inputs(self.ingestion.project.store, {"products": hashed}, no_rejected_rows(), sources=[])
            self.ingestion.known = pl.concat([self.ingestion.known, new[schema.PRODUCT_ID]])

    def _write_rows(self, accepted: pl.DataFrame, keep: Sequence[str]) -> None:
        if self.ingestion.write:
            no_rejects = pl.DataFrame(schema=dict.fromkeys(schema.REJECTED_COLUMNS, pl.String))
            watermarks.write_batch(
                self.ingestion.project.store,
                self.query.table,
                accepted,
                no_rejects,
                source=self.query.source,
                keep=keep,
            )

    def _complete_rows(self, result: ValidationResult) -> pl.DataFrame:
        """Keep the stored values of columns that the query does not return; add the hashes of products."""
        accepted, table = result.accepted, self.query.table
        if table in merging.KEYS and not result.columns.is_complete(table):
            if self._stored is None:
                self._stored = load_input_table(self.ingestion.project.store.engine, table)
            stored = self._stored.select(accepted.columns).cast(accepted.schema)
            accepted = merging.complete_rows(table, accepted, stored, result.columns)
        if table != "products":
            return accepted
        self.ids.append(accepted[schema.PRODUCT_ID])
        self._image_count += accepted[schema.IMAGE].count()
        return add_content_hashes(accepted, self.ingestion.project.images if self.ingestion.write else None)


def _mark_last(frames: Iterable[pl.DataFrame]) -> Iterator[tuple[pl.DataFrame, bool]]:
    """Yield each frame and whether it is the last; if the connection is lost, first the frame read before."""
    pending: pl.DataFrame | None = None
    try:
        for frame in frames:
            if pending is not None:
                yield pending, False
            pending = frame
    except TemporaryError:
        if pending is not None:
            yield pending, False
        raise
    if pending is not None:
        yield pending, True


def _first_true(mask: pl.Series) -> int | None:
    """Return the position of the first true value."""
    positions = mask.fill_null(value=False).arg_true()
    return int(positions[0]) if positions.len() else None


def _newer(first: int | None, second: Any) -> int | None:
    values = [int(value) for value in (first, second) if value is not None]
    return max(values) if values else None


def _format_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
