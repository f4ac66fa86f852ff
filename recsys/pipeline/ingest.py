"""Taking data in: files, a shop's own database or frames, judged, written to the store; and what the store then holds.

In: an open project and what is `IngestRequest`. Out: rows in the store, rejected rows with their reasons, a Report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recsys.data import input_sources as sources
from recsys.data import schema
from recsys.data.ingest import ingest as judge
from recsys.data.sql_queries import SourceQuery, read_all, source_queries
from recsys.db.engine import read
from recsys.db.source_reader import SourceReader, same_database
from recsys.errors import ConfigError, UsageError
from recsys.pipeline.ingest_sql import SqlIngestion
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.store.erasure import load_erased_users
from recsys.store.input_tables import write_inputs


@dataclass(frozen=True)
class IngestRequest:
    """What shall be read.

    Attributes:
        paths: files and folders.
        preset: their shape; None = canonical columns.
        table: what they hold, where it cannot be told.
        mapping: canonical name to their column.
        images: folders and zips of pictures; those beside the paths when empty.
        sql: read the queries of `[source]` instead.
        frames: or these frames, by table.
        full: of a database read everything, also what was read before.
    """

    paths: tuple[Path, ...] = ()
    preset: str | None = None
    table: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    images: tuple[Path, ...] = ()
    sql: bool = False
    frames: Mapping[str, Any] = field(default_factory=dict)
    full: bool = False

    @staticmethod
    def of(
        paths: Sequence[Path],
        *,
        preset: str | None = None,
        table: str | None = None,
        mapping: Sequence[str] = (),
        images: Sequence[Path] = (),
        sql: bool = False,
        frames: Mapping[str, Any] | None = None,
        full: bool = False,
    ) -> IngestRequest:
        """Check that the wishes go together.

        Raises:
            UsageError: nothing is wanted, or two things that exclude each other.
        """
        pairs: dict[str, str] = {}
        for text in mapping:
            name, mark, column = text.partition("=")
            if not (mark and name and column):
                raise UsageError(f"--map {text}: write it as canonical=theirs, for example --map title=prod_name")
            pairs[name] = column
        if sql and (paths or preset or table or pairs):
            raise UsageError("--from-sql reads a database; leave out the files and --preset, --as, --map")
        if full and (paths or preset or table or pairs or frames):
            raise UsageError("--full goes with --from-sql or [source] url; files are always read in full")
        if not (paths or images or sql or frames):
            sql = True  # what [source] names
        for path in (*paths, *images):
            if not path.exists():
                raise UsageError(f"no such file or folder: {path}")
        return IngestRequest(tuple(paths), preset, table, pairs, tuple(images), sql, dict(frames or {}), full)


def ingest(project: Project, wanted: IngestRequest, *, dry_run: bool = False) -> CommandResult:
    """Read, judge, write.

    Args:
        project: the project.
        wanted: what to read.
        dry_run: judge the rows but write nothing and decode no picture.

    Raises:
        DataContractError: more rows are rejected than `data.max_bad_fraction`, or a table is empty.
        UsageError: a file is missing or does not fit the preset, or the database refuses a query.
        TemporaryError: the database went away; what was read of it stays.
    """
    if wanted.sql:
        return _from_database(project, wanted, dry_run=dry_run)
    settings, store = project.settings, project.store
    parts = _parts(wanted)
    images = list(wanted.images or sources.find_image_archives(wanted.paths))
    with project.progress.stage("read and judge"):
        judged = judge(
            parts,
            settings=settings.data,
            pictures=None if dry_run else project.images,
            images=images,
            known_products=read(store.engine, "SELECT product_id FROM products")[schema.PRODUCT_ID].to_list(),
            forgotten=load_erased_users(store),
        )
    if not dry_run:
        with project.progress.stage("write"):
            write_inputs(store, judged.accepted, judged.rejected, sources=judged.sources, pictured=judged.pictured)
        project.reload()
    return _report(judged.counts, judged.warnings, judged.notes, dry_run=dry_run)


def _parts(wanted: IngestRequest) -> list[sources.SourceTable]:
    if wanted.frames:
        return sources.inputs_from_frames(wanted.frames)
    return sources.read_inputs(wanted.paths, preset=wanted.preset, table=wanted.table, mapping=wanted.mapping)


def _from_database(project: Project, wanted: IngestRequest, *, dry_run: bool) -> CommandResult:
    source, store = project.settings.source, project.store
    if source.url is None:
        raise ConfigError("nothing to ingest: name files or folders, or --from-sql URL, or set [source] url")
    given = {"products": source.products_query, "events": source.events_query, "users": source.users_query}
    queries = {table: query for table, query in given.items() if query is not None}
    wishes = source_queries(queries, folder=project.settings.project)
    with SourceReader(source.url.get_secret_value()) as reader:
        if same_database(reader.engine, store.engine):
            raise UsageError("the source is the store's own database; give [source] url the shop's (or --from-sql URL)")
        try:
            with project.progress.stage("read from the database") as progress:
                known = read(store.engine, "SELECT product_id FROM products")[schema.PRODUCT_ID].cast(pl.String)
                reading = SqlIngestion(
                    project, reader, known=known, full=wanted.full, write=not dry_run, progress=progress
                )
                if wanted.images:
                    wishes = _pictured(project, wanted, reading, wishes)
                for select in wishes:
                    reading.read_table(select)
        finally:
            project.reload()
    return _report(reading.taken.counts, reading.taken.warnings, reading.taken.notes, dry_run=dry_run)


def _pictured(
    project: Project, wanted: IngestRequest, reading: SqlIngestion, wishes: list[SourceQuery]
) -> list[SourceQuery]:
    """Read the products at once and not in batches: which picture belongs to whom is told from all of them."""
    parts = [read_all(select, reading.reader) for select in wishes if select.table == "products"]
    judged = judge(
        parts,
        settings=project.settings.data,
        pictures=project.images if reading.write else None,
        images=wanted.images,
        known_products=reading.known.to_list(),
    )
    if reading.write:
        write_inputs(project.store, judged.accepted, judged.rejected, sources=judged.sources, pictured=judged.pictured)
    reading.taken.counts.update(judged.counts)
    reading.taken.warnings += judged.warnings
    reading.taken.notes += judged.notes
    if "products" in judged.accepted:
        reading.known = pl.concat([reading.known, judged.accepted["products"][schema.PRODUCT_ID]]).unique()
    return [select for select in wishes if select.table != "products"]


def _report(
    counts: Mapping[str, dict[str, Any]], warnings: Sequence[str], notes: Sequence[str], *, dry_run: bool
) -> CommandResult:
    return CommandResult(
        "ingest",
        status="planned" if dry_run else "done",
        counts=counts,
        warnings=warnings,
        tables=[_table(counts)],
        notes=[*notes, *(["nothing was written (--dry-run)"] if dry_run else [])],
    )


def _table(found: Mapping[str, dict[str, Any]]) -> Table:
    rows = []
    for name, counts in found.items():
        reasons = {**counts.get("rejected_by", {}), **counts.get("filtered_by", {})}
        said = ", ".join(f"{code} {number}" for code, number in reasons.items())
        total = counts.get("rows_in", counts.get("found", 0))
        rows.append((name, total, counts["used"], counts["rejected"], counts.get("filtered", 0), said))
    return Table("ingested", ("table", "rows", "used", "rejected", "filtered", "reasons"), rows)
