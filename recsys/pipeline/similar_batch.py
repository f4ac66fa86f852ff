"""A file or frame of queries, answered block by block; a row that cannot be answered is told and left out.

In: an open project, rows with query_id, product, text, image, where, not_product, not_text, not_image. Out: a file or frame of
query_id, rank, product_id, score, title.
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
from recsys.data import file_readers as files
from recsys.data.input_sources import to_polars
from recsys.errors import DataContractError, UsageError, suggestion
from recsys.pipeline import similar as finding
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.similar_writer import ResultWriter
from recsys.vectors.search.engine import SCHEMA as FOUND
from recsys.vectors.search.query import KINDS, NOT, Query

logger = logging.getLogger(__name__)

QUERY_ID: Final = "query_id"
RANK: Final = "rank"
WHERE: Final = "where"
COLUMNS: Final = (QUERY_ID, *KINDS, WHERE, *(NOT + kind for kind in KINDS))
SCHEMA: Final = {QUERY_ID: pl.String, RANK: pl.Int64, **FOUND}
BLOCK: Final = 1_000
"""Queries answered at a time."""
_TOLD: Final = 5
_LISTED: Final = 1_000
_LIST: Final = ('["', "[]")


@dataclass
class FailedQueries:
    """Rows that were not answered.

    Attributes:
        count: how many.
        first: row number, query_id and reason of the first of them.
    """

    count: int = 0
    first: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, row: int, query: str, why: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < _LISTED:
            self.first.append((row, query, why))
        if self.count <= _TOLD:
            logger.warning("row %d (query %s) was not answered: %s", row, query, why)


def search_file(project: Project, queries: Path, *, k: int, output: Path | None) -> CommandResult:
    """Answer the queries of a file into a file.

    Args:
        project: the project.
        queries: csv, jsonl or parquet; pictures are named as seen from its folder.
        k: answers a query.
        output: where; its ending says how it is written.

    Raises:
        UsageError: a column is unknown, or no output is named.
        DataContractError: more rows than [data] max_bad_fraction cannot be answered; nothing is written then.
    """
    if output is None:
        raise UsageError("--queries needs a file for the answers: -o answers.parquet (or .csv, .jsonl)")
    _check(files.columns(queries), str(queries))
    bad, asked = FailedQueries(), 0
    with ResultWriter(output) as answers, project.progress.stage("similar") as progress:
        for block in files.frames(queries, batch=BLOCK):
            asked += block.height
            answers.write(_answered(project, block, k, bad, folder=queries.parent, search=project.settings.search))
            progress(asked, asked)
        _judge(project, bad, asked)
    counts = {"queries": asked, "answered": asked - bad.count, "rejected": bad.count, "rows": answers.rows}
    tables = [Table("not answered", ("row", QUERY_ID, "why"), bad.first)] if bad.first else []
    return CommandResult("similar", counts=counts, artifacts={"answers": output}, tables=tables)


def search_frame(project: Project, queries: Any, *, k: int, search: SearchSettings) -> pl.DataFrame:
    """Answer the queries of a file or a frame (polars, pandas, pyarrow); a bad row is told in the log.

    Returns:
        query_id, rank, product_id, score, title.

    Raises:
        UsageError, DataContractError: as `search_file`.
    """
    bad, asked, out = FailedQueries(), 0, []
    if isinstance(queries, str | Path):
        folder, blocks = Path(queries).parent, files.frames(Path(queries), batch=BLOCK)
        _check(files.columns(Path(queries)), str(queries))
    else:
        frame = to_polars(queries)
        _check(frame.columns, "the frame of queries")
        folder, blocks = Path(), frame_batches(frame)
    for block in blocks:
        asked += block.height
        out.append(_answered(project, block, k, bad, folder=folder, search=search))
    _judge(project, bad, asked)
    return pl.concat(out) if out else pl.DataFrame(schema=SCHEMA)


def frame_batches(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """A frame in blocks, its rows numbered from 1."""
    for start in range(0, frame.height, BLOCK):
        yield files.add_row_numbers(frame[start : start + BLOCK], start=start + 1)


def _check(columns: list[str], place: str) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise UsageError(
                f"{place}: queries have no column '{name}'{suggestion(name, COLUMNS)}; there are {', '.join(COLUMNS)}"
            )
    if not set(columns) & set(KINDS):
        raise UsageError(f"{place}: names no product, text or image to look for; there are {', '.join(COLUMNS)}")


def _judge(project: Project, bad: FailedQueries, asked: int) -> None:
    most = project.settings.data.max_bad_fraction
    if bad.count > _TOLD:
        logger.warning("%d of %d queries were not answered", bad.count, asked)
    if bad.count > most * asked:
        row, _, why = bad.first[0]
        raise DataContractError(
            f"{bad.count} of {asked} queries cannot be answered, more than [data] max_bad_fraction = {most}; the "
            f"first is row {row}: {why}"
        )


def _answered(
    project: Project, block: pl.DataFrame, k: int, bad: FailedQueries, *, folder: Path, search: SearchSettings
) -> pl.DataFrame:
    """Answers to one block of queries."""
    good: list[tuple[int, str, Query, str | None]] = []
    wrong: list[tuple[int, str, str]] = []
    for row in block.iter_rows(named=True):
        number = int(row[files.ROW])
        name = _text(row.get(QUERY_ID)) or str(number)
        try:
            if row[files.BAD] is not None:
                raise UsageError(f"the row cannot be read: {row[files.BAD]}")
            good.append((number, name, _query(row, folder), _text(row.get(WHERE))))
        except UsageError as error:
            wrong.append((number, name, str(error)))
    out = []
    if good:
        conditions = [where for *_, where in good]
        found = finding.get_search_engine(project, search, whole=any(conditions), many=True)
        answers = found.search([query for _, _, query, _ in good], k, where=conditions)
        for (number, name, *_), one in zip(good, answers, strict=True):
            if isinstance(one, UsageError):
                wrong.append((number, name, str(one)))
                continue
            ranks = pl.int_range(1, one.height + 1, eager=True, dtype=pl.Int64).alias(RANK)
            out.append(one.with_columns(pl.lit(name, dtype=pl.String).alias(QUERY_ID), ranks).select(list(SCHEMA)))
    for row_number, name, why in sorted(wrong):
        bad.add(row_number, name, why)
    return pl.concat(out) if out else pl.DataFrame(schema=SCHEMA)


def _query(row: Mapping[str, Any], folder: Path) -> Query:
    def of(kind: str, before: str = "") -> list[str] | None:
        values = _several(row.get(before + kind))
        return [str(folder / one) for one in values] if kind == "image" and values else values

    minus = {kind: of(kind, NOT) for kind in KINDS}
    return Query(product=of("product"), text=of("text"), image=of("image"), minus=minus)


def _several(cell: object) -> list[str] | None:
    """One or several values: a list, or a JSON list in a cell of text; an empty cell is none."""
    if isinstance(cell, str) and cell.lstrip().startswith(_LIST):
        try:
            cell = json.loads(cell)
        except ValueError:
            pass  # a text may begin like that
    if isinstance(cell, list | tuple):
        return [str(one) for one in cell if one is not None]
    text = _text(cell)
    return None if text is None else [text]


def _text(cell: object) -> str | None:
    return None if cell is None or not str(cell).strip() else str(cell)
