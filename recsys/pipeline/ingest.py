"""The `ingest` command: reads files, a shop's database or frames, validates the rows, writes them to the store.

In: an open project and an `IngestRequest`. Out: rows in the store, rejected rows with their reasons, a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recsys.config import DataSettings
from recsys.data import schema
from recsys.data.dataset import load_input_table
from recsys.data.ingest import ingest as validate_inputs
from recsys.data.input_files import InputFiles, find_image_archives, read_inputs
from recsys.data.input_sources import inputs_from_frames
from recsys.data.sql_queries import SourceQuery, read_all, source_queries
from recsys.db.engine import read_frame
from recsys.db.source_reader import SourceReader, same_database
from recsys.errors import ConfigError, UsageError
from recsys.pipeline.ingest_sql import SqlIngestion
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.store.erasure import load_erased_users
from recsys.store.input_tables import key_hashes, write_inputs


@dataclass(frozen=True)
class IngestRequest:
    """The inputs of an ingest.

    Attributes:
        paths: files and folders.
        preset: their format; None = canonical columns.
        table: the table they hold, if it cannot be inferred.
        mapping: canonical name to column name in the files.
        images: folders and zips of images; empty = those beside the paths.
        sql: read the queries of `[source]` instead.
        frames: or read these frames, by table.
        full: re-read all rows of a source database, and remove stored rows that it does not have.
        replace: tables that the inputs replace; of the others, stored rows and columns are kept.
    """

    paths: tuple[Path, ...] = ()
    preset: str | None = None
    table: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    images: tuple[Path, ...] = ()
    sql: bool = False
    frames: Mapping[str, Any] = field(default_factory=dict)
    full: bool = False
    replace: tuple[str, ...] = ()

    @staticmethod
    def from_options(
        paths: Sequence[Path],
        *,
        preset: str | None = None,
        table: str | None = None,
        mapping: Sequence[str] = (),
        images: Sequence[Path] = (),
        sql: bool = False,
        frames: Mapping[str, Any] | None = None,
        full: bool = False,
        replace: Sequence[str] = (),
    ) -> IngestRequest:
        """Validate the options and build the request; see `IngestRequest`.

        Raises:
            UsageError: there is no such file, a mapping cannot be parsed, or two options exclude each other.
        """
        pairs: dict[str, str] = {}
        for text in mapping:
            name, equals, column = text.partition("=")
            if not (equals and name and column):
                raise UsageError(f"--map {text}: write it as canonical=theirs, for example --map title=prod_name")
            pairs[name] = column
        if sql and (paths or preset or table or pairs):
            raise UsageError("--from-sql reads a database; leave out the files and --preset, --as, --map")
        if full and (paths or preset or table or pairs or frames):
            raise UsageError("--full goes with --from-sql or [source] url; files are always read in full")
        if not (paths or images or sql or frames):
            sql = True  # read the database of [source]
        for path in (*paths, *images):
            if not path.exists():
                raise UsageError(f"no such file or folder: {path}")
        for name in replace:
            if name not in schema.TABLES:
                raise UsageError(f"--replace {name}: there is no such table; give products, events or users")
        if replace and sql:
            raise UsageError("--replace goes with files and frames; a database is read again with --full")
        return IngestRequest(
            tuple(paths), preset, table, pairs, tuple(images), sql, dict(frames or {}), full, tuple(replace)
        )


def ingest(project: Project, request: IngestRequest, *, dry_run: bool = False) -> CommandResult:
    """Read, validate and write rows.

    Args:
        project: the project.
        request: the inputs.
        dry_run: validate the rows but write nothing and decode no image.

    Raises:
        DataContractError: more rows are rejected than `data.max_bad_fraction`, or a table is empty.
        UsageError: a file is missing or does not fit the preset, or the database refuses a query.
        TemporaryError: the connection to the database was lost; the rows read so far stay.
    """
    if request.sql:
        return _ingest_database(project, request, dry_run=dry_run)
    settings, store = project.settings, project.store
    inputs = _read_inputs(request, settings.data)
    absent = [name for name in request.replace if name not in {part.table for part in inputs.tables}]
    if absent:
        raise UsageError(f"--replace {absent[0]}: the inputs hold no {absent[0]}")
    images = list(request.images or find_image_archives(request.paths))
    with project.progress.stage("read and judge"):
        result = validate_inputs(
            inputs.tables,
            settings=settings.data,
            stored=lambda table: load_input_table(store.engine, table),
            replace=request.replace,
            image_store=None if dry_run else project.images,
            image_paths=images,
            known_products=read_frame(store.engine, "SELECT product_id FROM products")[schema.PRODUCT_ID].to_list(),
            erased_users=load_erased_users(store),
        )
    if not dry_run:
        with project.progress.stage("write"):
            removed = write_inputs(
                store,
                result.accepted,
                result.rejected,
                sources=result.sources,
                image_files=result.new_images,
                replace=request.replace,
                keep=result.kept_event_columns,
            )
        project.reload()
        notes = [*result.notes, *_removed_notes(removed)]
    else:
        notes = list(result.notes)
    return _build_result(result.counts, [*inputs.warnings(), *result.warnings], notes, dry_run=dry_run)


def _read_inputs(request: IngestRequest, settings: DataSettings) -> InputFiles:
    if request.frames:
        return InputFiles(inputs_from_frames(request.frames))
    return read_inputs(
        request.paths,
        preset=request.preset,
        table=request.table,
        mapping=request.mapping,
        encoding=settings.encoding,
        decimal=settings.decimal,
    )


def _removed_notes(removed: Mapping[str, int]) -> list[str]:
    sentences = {
        "products": "{number:,} products left the catalogue and are not available any more",
        "events": "{number:,} stored events were replaced",
        "users": "{number:,} stored users were replaced",
    }
    return [sentences[table].format(number=number) for table, number in removed.items() if number]


def _ingest_database(project: Project, request: IngestRequest, *, dry_run: bool) -> CommandResult:
    source, store = project.settings.source, project.store
    if source.url is None:
        raise ConfigError("nothing to ingest: name files or folders, or --from-sql URL, or set [source] url")
    options = {"products": source.products_query, "events": source.events_query, "users": source.users_query}
    queries = {table: query for table, query in options.items() if query is not None}
    table_queries = source_queries(queries, folder=project.settings.project)
    with SourceReader(source.url.get_secret_value()) as reader:
        if same_database(reader.engine, store.engine):
            raise UsageError("the source is the store's own database; give [source] url the shop's (or --from-sql URL)")
        try:
            with project.progress.stage("read from the database") as progress:
                known_products = read_frame(store.engine, "SELECT product_id FROM products")[schema.PRODUCT_ID].cast(
                    pl.String
                )
                ingestion = SqlIngestion(
                    project, reader, known=known_products, full=request.full, write=not dry_run, progress=progress
                )
                if request.images:
                    table_queries = _ingest_products_with_images(project, request, ingestion, table_queries)
                ingestion.uses_event_products = not any(query.table == "products" for query in table_queries)
                for query in table_queries:
                    ingestion.read_table(query)
                if request.full and not dry_run:
                    ingestion.remove_unlisted()
        finally:
            project.reload()
    return _build_result(ingestion.result.counts, ingestion.result.warnings, ingestion.result.notes, dry_run=dry_run)


def _ingest_products_with_images(
    project: Project, request: IngestRequest, ingestion: SqlIngestion, queries: list[SourceQuery]
) -> list[SourceQuery]:
    """Ingest all products in one batch, because images are matched against all of them; return the other queries."""
    inputs = [read_all(query, ingestion.reader) for query in queries if query.table == "products"]
    result = validate_inputs(
        inputs,
        settings=project.settings.data,
        image_store=project.images if ingestion.write else None,
        image_paths=request.images,
        known_products=ingestion.known.to_list(),
    )
    if ingestion.write:
        write_inputs(
            project.store, result.accepted, result.rejected, sources=result.sources, image_files=result.new_images
        )
        if ingestion.full and "products" in result.accepted:
            ingestion.listed["products"] = [key_hashes("products", result.accepted["products"])]
    ingestion.result.counts.update(result.counts)
    ingestion.result.warnings += result.warnings
    ingestion.result.notes += result.notes
    if "products" in result.accepted:
        ingestion.known = pl.concat([ingestion.known, result.accepted["products"][schema.PRODUCT_ID]]).unique()
    return [query for query in queries if query.table != "products"]


def _build_result(
    counts: Mapping[str, dict[str, Any]], warnings: Sequence[str], notes: Sequence[str], *, dry_run: bool
) -> CommandResult:
    return CommandResult(
        "ingest",
        status="planned" if dry_run else "done",
        counts=counts,
        warnings=warnings,
        tables=[_counts_table(counts)],
        notes=[*notes, *(["nothing was written (--dry-run)"] if dry_run else [])],
    )


def _counts_table(table_counts: Mapping[str, dict[str, Any]]) -> Table:
    rows = []
    for name, counts in table_counts.items():
        reasons = {**counts.get("rejected_by", {}), **counts.get("filtered_by", {})}
        reasons_text = ", ".join(f"{code} {number}" for code, number in reasons.items())
        total = counts.get("rows_in", counts.get("found", 0))
        rows.append((name, total, counts["used"], counts["rejected"], counts.get("filtered", 0), reasons_text))
    return Table("ingested", ("table", "rows", "used", "rejected", "filtered", "reasons"), rows)
