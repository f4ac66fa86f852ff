"""Answers a file or frame of queries in batches; a row that cannot be answered is reported and skipped.

In: an open project; rows with query_id, product, text, image, where, not_product, not_text, not_image. Out: a file or
frame of query_id, rank, product_id, score, title.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from recsys.config import SearchSettings
from recsys.data import file_readers
from recsys.data.input_sources import to_polars
from recsys.errors import DataContractError, UsageError, suggestion
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.similar import get_search_engine
from recsys.pipeline.similar_writer import ResultWriter
from recsys.vectors.search.engine import SCHEMA as ANSWER_SCHEMA
from recsys.vectors.search.query import KINDS, NOT_PREFIX, Query

logger = logging.getLogger(__name__)

QUERY_ID: Final = "query_id"
RANK: Final = "rank"
WHERE: Final = "where"
COLUMNS: Final = (QUERY_ID, *KINDS, WHERE, *(NOT_PREFIX + kind for kind in KINDS))
SCHEMA: Final = {QUERY_ID: pl.String, RANK: pl.Int64, **ANSWER_SCHEMA}
BLOCK: Final = 1_000
"""Queries answered in one batch."""
_MAX_WARNINGS: Final = 5
_MAX_LISTED: Final = 1_000
"""Unanswered rows in the result."""
_JSON_LIST_STARTS: Final = ('["', "[]")


@dataclass
class FailedQueries:
    """Rows that were not answered.

    Attributes:
        count: number of rows.
        first: row number, query_id and reason of the first of them.
    """

    count: int = 0
    first: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, row: int, query: str, reason: str) -> None:
        """Count one row, and log the first of them."""
        self.count += 1
        if len(self.first) < _MAX_LISTED:
            self.first.append((row, query, reason))
        if self.count <= _MAX_WARNINGS:
            logger.warning("row %d (query %s) was not answered: %s", row, query, reason)


def search_file(project: Project, queries: Path, *, k: int, output: Path | None) -> CommandResult:
    """Answer the queries of a file into a file.

    Args:
        project: the project.
        queries: csv, jsonl or parquet file; image paths are relative to its folder.
        k: products per query.
        output: file for the answers; its ending selects the format.

    Raises:
        UsageError: a column is unknown, or there is no output.
        DataContractError: more rows than [data] max_bad_fraction cannot be answered; nothing is written.
    """
    if output is None:
        raise UsageError("--queries needs a file for the answers: -o answers.parquet (or .csv, .jsonl)")
    _check_columns(file_readers.columns(queries), str(queries))
    failed, n_queries = FailedQueries(), 0
    with ResultWriter(output) as writer, project.progress.stage("similar") as progress:
        for block in file_readers.frames(queries, batch=BLOCK):
            n_queries += block.height
            writer.write(
                _answer_block(project, block, k, failed, folder=queries.parent, search=project.settings.search)
            )
            progress(n_queries, n_queries)
        _require_enough_answers(project, failed, n_queries)
    counts = {
        "queries": n_queries,
        "answered": n_queries - failed.count,
        "rejected": failed.count,
        "rows": writer.rows,
    }
    tables = [Table("not answered", ("row", QUERY_ID, "why"), failed.first)] if failed.first else []
    return CommandResult("similar", counts=counts, artifacts={"answers": output}, tables=tables)


def search_frame(project: Project, queries: Any, *, k: int, search: SearchSettings) -> pl.DataFrame:
    """Answer the queries of a file or a frame (polars, pandas, pyarrow); a bad row is logged and skipped.

    Returns:
        query_id, rank, product_id, score, title.

    Raises:
        UsageError, DataContractError: as `search_file`.
    """
    failed, n_queries, answers = FailedQueries(), 0, []
    if isinstance(queries, str | Path):
        folder, blocks = Path(queries).parent, file_readers.frames(Path(queries), batch=BLOCK)
        _check_columns(file_readers.columns(Path(queries)), str(queries))
    else:
        frame = to_polars(queries)
        _check_columns(frame.columns, "the frame of queries")
        folder, blocks = Path(), frame_batches(frame)
    for block in blocks:
        n_queries += block.height
        answers.append(_answer_block(project, block, k, failed, folder=folder, search=search))
    _require_enough_answers(project, failed, n_queries)
    return pl.concat(answers) if answers else pl.DataFrame(schema=SCHEMA)


def frame_batches(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield a frame in batches, its rows numbered from 1."""
    for start in range(0, frame.height, BLOCK):
        yield file_readers.add_row_numbers(frame[start : start + BLOCK], start=start + 1)


def _check_columns(columns: list[str], source: str) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise UsageError(
                f"{source}: queries have no column '{name}'{suggestion(name, COLUMNS)}; there are {', '.join(COLUMNS)}"
            )
    if not set(columns) & set(KINDS):
        raise UsageError(f"{source}: names no product, text or image to look for; there are {', '.join(COLUMNS)}")


def _require_enough_answers(project: Project, failed: FailedQueries, n_queries: int) -> None:
    max_bad_fraction = project.settings.data.max_bad_fraction
    if failed.count > _MAX_WARNINGS:
        logger.warning("%d of %d queries were not answered", failed.count, n_queries)
    if failed.count > max_bad_fraction * n_queries:
        row, _, reason = failed.first[0]
        raise DataContractError(
            f"{failed.count} of {n_queries} queries cannot be answered, more than [data] max_bad_fraction = "
            f"{max_bad_fraction}; the first is row {row}: {reason}"
        )


def _answer_block(
    project: Project, block: pl.DataFrame, k: int, failed: FailedQueries, *, folder: Path, search: SearchSettings
) -> pl.DataFrame:
    """Answer one batch of queries."""
    valid: list[tuple[int, str, Query, str | None]] = []
    invalid: list[tuple[int, str, str]] = []
    for row in block.iter_rows(named=True):
        number = int(row[file_readers.ROW])
        name = _text(row.get(QUERY_ID)) or str(number)
        try:
            if row[file_readers.BAD] is not None:
                raise UsageError(f"the row cannot be read: {row[file_readers.BAD]}")
            valid.append((number, name, _parse_query(row, folder), _text(row.get(WHERE))))
        except UsageError as error:
            invalid.append((number, name, str(error)))
    frames = []
    if valid:
        conditions = [where for *_, where in valid]
        engine = get_search_engine(project, search, all_columns=any(conditions), use_index=True)
        answers = engine.search([query for _, _, query, _ in valid], k, where=conditions)
        for (number, name, *_), answer in zip(valid, answers, strict=True):
            if isinstance(answer, UsageError):
                invalid.append((number, name, str(answer)))
                continue
            ranks = pl.int_range(1, answer.height + 1, eager=True, dtype=pl.Int64).alias(RANK)
            frames.append(
                answer.with_columns(pl.lit(name, dtype=pl.String).alias(QUERY_ID), ranks).select(list(SCHEMA))
            )
    for row_number, name, reason in sorted(invalid):
        failed.add(row_number, name, reason)
    return pl.concat(frames) if frames else pl.DataFrame(schema=SCHEMA)


def _parse_query(row: Mapping[str, Any], folder: Path) -> Query:
    def values_of(kind: str, prefix: str = "") -> list[str] | None:
        values = _parse_values(row.get(prefix + kind))
        return [str(folder / path) for path in values] if kind == "image" and values else values

    minus = {kind: values_of(kind, NOT_PREFIX) for kind in KINDS}
    return Query(product=values_of("product"), text=values_of("text"), image=values_of("image"), minus=minus)


def _parse_values(cell: object) -> list[str] | None:
    """Return the values of a cell: a list, a JSON list as text, or one text; None for an empty cell."""
    if isinstance(cell, str) and cell.lstrip().startswith(_JSON_LIST_STARTS):
        try:
            cell = json.loads(cell)
        except ValueError:
            pass  # an ordinary text may start like that
    if isinstance(cell, list | tuple):
        return [str(value) for value in cell if value is not None]
    text = _text(cell)
    return None if text is None else [text]


def _text(cell: object) -> str | None:
    return None if cell is None or not str(cell).strip() else str(cell)
