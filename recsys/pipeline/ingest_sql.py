"""Reading a shop's own database into the store: batch by batch, judged, committed together with how far it has come.

In: an open project, the SELECTs, an open `SourceReader`. Out: rows in the store, a moved mark, counts of every row; a reading that is
stopped keeps what it has written, and the next one goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl

from recsys.data import schema
from recsys.data.deduplication import Deduplicator, warn_similar_ids
from recsys.data.file_readers import ROW
from recsys.data.ingest import add_content_hashes
from recsys.data.row_counts import Counts, RowCounts
from recsys.data.sql_queries import SourceQuery
from recsys.data.validation import ValidationResult, refuse_empty, validate_batch
from recsys.db.source_reader import SourceReader
from recsys.errors import DataContractError, TemporaryError, UsageError
from recsys.execution import signals as stop
from recsys.execution.progress import Progress
from recsys.pipeline.project import Project
from recsys.store import watermarks as marks
from recsys.store.erasure import load_erased_users
from recsys.store.watermarks import Watermark


@dataclass
class IngestCounts:
    """What a reading came to, as an ingest reports it."""

    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class SqlIngestion:
    """One reading of a source, table after table, products first.

    Args:
        project: the project.
        reader: the open source.
        known: ids of products that are in the store.
        full: read everything, whatever was read before.
        write: False = judge only.
        progress: told the rows read so far.
    """

    def __init__(
        self, project: Project, reader: SourceReader, *, known: pl.Series, full: bool, write: bool, progress: Progress
    ) -> None:
        self.project, self.reader, self.full, self.write, self.progress = project, reader, full, write, progress
        self.known = known
        self.forgotten = load_erased_users(project.store)
        self.now = int(time.time())
        self.rows = 0
        self.taken = IngestCounts()

    def read_table(self, select: SourceQuery) -> None:
        """Read one table to its end.

        Raises:
            DataContractError: it is empty, or too much of it is rejected (what was written before the end stays).
            UsageError: the database refuses the query, or the query does not fit the table.
            TemporaryError: the database went away; what was read stays, and the next reading goes on.
        """
        if select.table == "events" and not self.known.len():
            raise DataContractError(
                f"events: {select.source} has events, but the catalogue is empty; ingest products first, or with them"
            )
        fingerprint = select.fingerprint(self.reader)
        mark = Watermark(select.source, fingerprint)
        if select.incremental and not self.full:
            mark = marks.read_watermark(self.project.store, select.source, fingerprint)
            if mark.newest is None and mark.reached is None and marks.has_mark(self.project.store, select.source):
                self.taken.notes.append(
                    f"{select.table}: another query or database than last time, read from the start"
                )
        table = _TableIngestion(self, select, mark)
        batches = select.frames(self.reader, since=table.since, batch=self.project.settings.source.batch_rows)
        try:
            for frame, last in _ended(batches):
                table.take(frame, last=last)
                self.rows += frame.height
                self.progress(self.rows, self.rows)
        except (DataContractError, UsageError):
            table.give_up()
            raise
        self.taken.counts[select.table] = table.tally.counts
        notes, warnings = table.said()
        self.taken.notes += notes
        self.taken.warnings += warnings
        if select.table == "products":
            ids = pl.concat([self.known.clear(), *table.ids])
            self.taken.warnings += warn_similar_ids(ids)
            self.known = pl.concat([self.known, ids]).unique()


class _TableIngestion:
    """One table on its way."""

    def __init__(self, reading: SqlIngestion, select: SourceQuery, mark: Watermark) -> None:
        self.reading, self.select, self.mark = reading, select, mark
        settings = reading.project.settings
        self.start = mark.newest if mark.reached is None else mark.reached
        overlap = int(settings.source.overlap_hours * 3600)
        self.since = 0 if self.start is None else max(0, self.start - overlap)
        self.tally = RowCounts(select.table, select.source, settings.data)
        if mark.reached is not None:
            self.tally.going_on(mark.counts)
        self.ids: list[pl.Series] = []
        self._twins = Deduplicator(select.table)
        self._first, self._moved = True, False
        self._newest: int | None = None  # of what has been read now
        self._reached, self._before = mark.reached, dict(mark.counts)
        self._passed = mark.reached is None
        self._again = self._pictures = 0

    def take(self, frame: pl.DataFrame, *, last: bool) -> None:
        """Judge and write one batch of raw rows."""
        stamps = self.select.stamps(frame)
        if not self._passed:
            frame, stamps = self._beyond(frame, stamps)
        checked = self._judged(frame, self.tally.counts["rows_in"] + 1)
        self._advance(checked, stamps)
        self.tally.take(checked)
        if last:
            self._enforce()
        self._write(checked, self._mark(last=last))

    def give_up(self) -> None:
        """What was read cannot be trusted to be in order or whole: the next reading begins where this one began."""
        if self._moved:
            marks.set_watermark(self.reading.project.store, replace(self.mark, reached=None, counts={}))

    def said(self) -> tuple[list[str], list[str]]:
        """Notes and warnings."""
        notes, warnings = self.tally.messages()
        table, start = self.select.table, self.start
        if start is not None:
            how = "an interrupted reading went on at" if self.mark.reached is not None else "newest known"
            notes.append(f"{table}: read from {_shown(self.since)} on ({how} {_shown(start)})")
        if self._again:
            notes.append(f"{table}: {self._again:,} rows before it were read a second time and are counted once")
        if start is not None and not (self.tally.counts["rows_in"] or self._again):
            warnings.append(
                f"{table}: no row since {_shown(self.since)}, although one of {_shown(start)} is known; see whether "
                "the query compares its time with :since in the same form, or read everything with --full"
            )
        if self._pictures:
            warnings.append(f"products: {self._pictures:,} name a picture, but no pictures were given (--images)")
        return notes, warnings

    def _beyond(self, frame: pl.DataFrame, stamps: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
        """Take what was counted before the interruption out of the count; it is written again all the same."""
        at = _first(stamps >= self.mark.reached)
        self._passed = at is not None
        end = frame.height if at is None else at
        if end:
            checked = self._judged(frame[:end], 1)
            self._ascending(checked)
            self._again += end
            self._write_rows(checked.accepted)
        return frame[end:], stamps[end:]

    def _judged(self, frame: pl.DataFrame, start: int) -> ValidationResult:
        numbered = frame.with_columns(pl.int_range(start, start + pl.len(), dtype=pl.Int64).alias(ROW))
        checked = validate_batch(
            self.select.table,
            self.select.shaped(numbered),
            source=self.select.source,
            settings=self.reading.project.settings.data,
            now=self.reading.now,
            known_products=self.reading.known if self.select.table == "events" else None,
            twins=self._twins,
        )
        return self.reading.forgotten.filter_events(checked)

    def _advance(self, checked: ValidationResult, stamps: pl.Series) -> None:
        """Note the newest row; in a reading by time also up to where everything is there."""
        if not self.select.ordered:
            seen = stamps.filter(stamps <= self.reading.now + 86_400).max()
            self._newest = _newer(self._newest, seen)
            return
        self._ascending(checked)
        if checked.accepted.height and self._newest != self._reached:
            first = _first(stamps == self._newest) or 0
            self._before = self.tally.with_first(checked, before=self.tally.counts["rows_in"] + 1 + first)
            self._reached = self._newest

    def _ascending(self, checked: ValidationResult) -> None:
        """Hold the database to the order it was asked for: events of one moment must stand together."""
        times = checked.accepted[schema.OCCURRED_AT]
        if not times.len():
            return
        before, newest = self._newest, int(times[-1])
        if not times.is_sorted() or (before is not None and times[0] < before):
            raise UsageError(
                "events: sorted by occurred_at the rows are not in order of time, so the column is written in several "
                "forms; make it one in the SELECT (SQL: CAST(... AS TIMESTAMP), SQLite: datetime(...))"
            )
        self._newest = newest
        if newest != before:
            self._twins.only(checked.accepted.filter(times == newest))

    def _enforce(self) -> None:
        self.tally.enforce()
        if self.start is None and not self.tally.counts["rows_in"]:
            advice = "see whether the query compares its time with :since in the same form"
            plain = "check the query"
            refuse_empty(
                self.select.table, source=self.select.source, advice=advice if self.select.incremental else plain
            )

    def _mark(self, *, last: bool) -> Watermark | None:
        if not self.select.incremental:
            return None
        if last:
            seen = None if self._newest is None else min(self._newest, self.reading.now)
            return Watermark(self.mark.source, self.mark.fingerprint, _newer(self.mark.newest, seen))
        if self.select.ordered and self._reached is not None:
            return replace(self.mark, reached=self._reached, counts=self._before)
        return None

    def _write(self, checked: ValidationResult, move: Watermark | None) -> None:
        accepted = self._finished(checked.accepted)
        if not self.reading.write:
            return
        before: Counts = dict(self.mark.counts) if self.mark.reached is not None else {}
        with stop.defer_signals():
            marks.write_batch(
                self.reading.project.store,
                self.select.table,
                accepted,
                checked.rejected,
                source=self.select.source,
                after=int(before.get("rows_in", 0)) if self._first else None,
                move=move,
            )
        self._first, self._moved = False, self._moved or move is not None

    def _write_rows(self, accepted: pl.DataFrame) -> None:
        if self.reading.write:
            none = pl.DataFrame(schema=dict.fromkeys(schema.REJECTED_COLUMNS, pl.String))
            marks.write_batch(self.reading.project.store, self.select.table, accepted, none, source=self.select.source)

    def _finished(self, accepted: pl.DataFrame) -> pl.DataFrame:
        if self.select.table != "products":
            return accepted
        self.ids.append(accepted[schema.PRODUCT_ID])
        self._pictures += accepted[schema.IMAGE].count()
        return add_content_hashes(accepted, self.reading.project.images if self.reading.write else None)


def _ended(frames: Iterable[pl.DataFrame]) -> Iterator[tuple[pl.DataFrame, bool]]:
    """Each frame and whether it is the last; when the database goes away, first what it has given."""
    held: pl.DataFrame | None = None
    try:
        for frame in frames:
            if held is not None:
                yield held, False
            held = frame
    except TemporaryError:
        if held is not None:
            yield held, False
        raise
    if held is not None:
        yield held, True


def _first(mask: pl.Series) -> int | None:
    """Place of the first true value."""
    places = mask.fill_null(value=False).arg_true()
    return int(places[0]) if places.len() else None


def _newer(one: int | None, other: Any) -> int | None:
    there = [int(value) for value in (one, other) if value is not None]
    return max(there) if there else None


def _shown(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
