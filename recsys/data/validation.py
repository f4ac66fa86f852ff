"""Validate input tables: every row is accepted, rejected with a reason code, or filtered, and counted.

In: raw frames with canonical columns. Out: typed accepted rows, rejected rows with codes, counts of filtered ones.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl

from recsys.config import DataSettings
from recsys.data import rejected_rows as rejects
from recsys.data import schema
from recsys.data.assumptions import REPEATED, Assumptions, assumption_messages
from recsys.data.deduplication import Deduplicator, drop_duplicates, line_numbers, warn_similar_ids
from recsys.data.formats.rows import KEYS, MARKS, ROW, SKIP
from recsys.data.merging import SourceColumns
from recsys.data.row_validator import RowValidator
from recsys.errors import DataContractError

_MAX_REPEATED: Final = 0.1
"""Share of equal event rows above which the export is likely to repeat rows."""
_MIN_CELLS: Final = 10
"""Fewer cells or rows do not tell anything about a whole table."""
_KEYS: Final = {"products": schema.PRODUCT_ID, "users": schema.USER_ID}


@dataclass(frozen=True)
class ValidationResult:
    """Validation result of one table of one source; always `rows_in == used + rejected + filtered`.

    Attributes:
        accepted: (a, c) canonical columns in their types; times are UTC seconds, events have `line_no`.
        rejected: (r, 7) schema.REJECTED_COLUMNS.
        filtered: reason to number of filtered rows.
        rows_in: number of input rows.
        table: canonical table.
        assumptions: counts of implicit conversions (units of times, default event types).
        extra_warnings: further warnings.
        bad_cells: (b, 7) schema.REJECTED_COLUMNS of optional cells that cannot be parsed; their rows are accepted.
        filled: column to number of cells that are not empty.
        columns: columns that the input has.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    filtered: dict[str, int]
    rows_in: int
    table: str
    assumptions: Assumptions = field(default_factory=Assumptions, repr=False)
    extra_warnings: tuple[str, ...] = ()
    bad_cells: pl.DataFrame = field(default_factory=rejects.no_rejected_rows, repr=False)
    filled: dict[str, int] = field(default_factory=dict, repr=False)
    columns: SourceColumns = SourceColumns(frozenset())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems that the user should check."""
        return (*assumption_messages(self.table, self.assumptions)[1], *self.extra_warnings)

    @property
    def notes(self) -> tuple[str, ...]:
        """Implicit conversions."""
        return tuple(assumption_messages(self.table, self.assumptions)[0])


def validate(
    table: str,
    frame: pl.DataFrame,
    *,
    source: str,
    settings: DataSettings,
    now: int,
    known_products: Collection[str] | None = None,
    allow_empty: bool = False,
) -> ValidationResult:
    """Validate the rows of a table; the code of a row is that of its first error.

    An optional cell of a product or user that cannot be parsed is left empty, and the row is accepted.

    Args:
        table: `products`, `events` or `users`.
        frame: (n, c) canonical columns of any type, optionally with files.MARKS; missing columns count as empty.
        source: name of the source, for messages and `rejected_rows`.
        settings: decimal mark and the allowed share of rejected rows.
        now: UTC seconds; events more than a day later are rejected.
        known_products: product ids of the catalogue; None accepts every id.
        allow_empty: accept events without rows, with a warning.

    Raises:
        DataContractError: products or events have no rows, more rows are rejected than `max_bad_fraction` allows, or
            more than half of the cells of a column cannot be parsed.
    """
    warnings: list[str] = []
    if not frame.height and table == "events" and allow_empty:
        warnings.append(f"events: {source} holds no rows; without events only products can be compared")
    elif not frame.height:
        raise_for_empty_table(table, source=source)
    checked = validate_batch(table, frame, source=source, settings=settings, now=now, known_products=known_products)
    raise_if_too_many_rejects(table, checked.rejected, checked.rows_in, source=source, settings=settings)
    _raise_if_column_is_misread(checked, source=source, settings=settings)
    if table != "users":
        ids = checked.accepted[schema.PRODUCT_ID if table == "products" else schema.USER_ID]
        warnings += warn_similar_ids(ids.unique(maintain_order=True), table)
    n_repeated = checked.assumptions.pop((REPEATED, "", ""), 0)
    if n_repeated >= _MIN_CELLS and n_repeated > _MAX_REPEATED * checked.accepted.height:
        warnings.append(
            f"events: {n_repeated:,} of {checked.accepted.height:,} rows of {source} equal an earlier row in user, "
            "product, time, type and order, and count as further purchases; if the export repeats rows, remove them"
        )
    return replace(checked, extra_warnings=tuple(warnings))


def _raise_if_column_is_misread(checked: ValidationResult, *, source: str, settings: DataSettings) -> None:
    """Raise DataContractError if most cells of a column cannot be parsed: the column has another format."""
    for column, number in checked.bad_cells["column_name"].value_counts().rows():
        filled = checked.filled.get(column, 0)
        if (number * 2 > filled and filled >= _MIN_CELLS) or number == filled > 1:
            cells = checked.bad_cells.filter(pl.col("column_name") == column)
            reasons = rejects.summary(cells, decimal=settings.decimal)
            raise DataContractError(
                f"{checked.table}: {number:,} of {filled:,} cells of column {column} of {source} cannot be parsed: "
                f"{'; '.join(reasons)}; export the column in another form, or leave it out"
            )


def validate_batch(
    table: str,
    frame: pl.DataFrame,
    *,
    source: str,
    settings: DataSettings,
    now: int,
    known_products: Collection[str] | pl.Series | None = None,
    deduplicator: Deduplicator | None = None,
) -> ValidationResult:
    """Validate one of several batches, without the checks for empty tables and for too many rejected rows.

    `deduplicator` has the keys of the earlier batches; None for a single batch.
    """
    validator = RowValidator(table, frame, settings)
    parsed = validator.validate(now, known_products)
    is_bad, is_skipped = parsed["__code__"].is_not_null(), parsed[SKIP].is_not_null()
    filtered = dict(parsed.filter(is_skipped).group_by(SKIP).len().sort(SKIP).rows())
    valid = parsed.filter(~is_bad & ~is_skipped)
    if table == "events":
        valid = deduplicator.number_duplicates(valid) if deduplicator else line_numbers(valid)
    else:
        key = _KEYS[table]
        valid, conflicts, n_equal = (
            deduplicator.drop_duplicates(valid, key) if deduplicator else drop_duplicates(valid, key)
        )
        if n_equal:
            filtered["duplicate"] = n_equal
        parsed = parsed.join(conflicts, on=ROW, how="left", maintain_order="left")
        is_conflict = pl.col("__twin__").is_not_null()
        parsed = parsed.with_columns(
            pl.when(is_conflict).then(pl.lit("conflicting_duplicate")).otherwise(pl.col("__code__")).alias("__code__"),
            pl.when(is_conflict).then(pl.lit(key)).otherwise(pl.col("__column__")).alias("__column__"),
            pl.when(is_conflict).then(pl.col(key)).otherwise(pl.col("__cell__")).alias("__cell__"),
        )
        is_bad = parsed["__code__"].is_not_null()
    reasons = parsed.filter(is_bad).select(ROW, "__code__", "__column__", "__cell__")
    originals = validator.raw.drop(SKIP).join(reasons, on=ROW, how="inner", maintain_order="left")
    rejected = rejects.rejected_rows(originals, source=source, table=table)
    accepted = valid.drop([name for name in valid.columns if name.startswith("__")])
    if table == "events":
        n_repeated = int((accepted[schema.LINE_NO] > 0).sum())
        if n_repeated:
            validator.assumptions[REPEATED, "", ""] += n_repeated
    checked = ValidationResult(
        accepted,
        rejected,
        filtered,
        frame.height,
        table,
        validator.assumptions,
        bad_cells=rejects.concat([cells.with_columns(pl.lit(source).alias("source")) for cells in validator.bad_cells]),
        filled=validator.filled,
        columns=_source_columns(frame),
    )
    if accepted.height + rejected.height + sum(filtered.values()) != frame.height:
        raise AssertionError(f"{table}: rows do not add up")  # a bug in this module, whatever the data
    return checked


def _source_columns(frame: pl.DataFrame) -> SourceColumns:
    names = frozenset(name for name in frame.columns if name not in MARKS)
    if KEYS not in frame.columns:
        return SourceColumns(names)
    attributes = {name for keys in frame[KEYS].drop_nulls().unique().to_list() for name in keys.split("\x00") if name}
    return SourceColumns(names, frozenset(attributes))


def raise_for_empty_table(table: str, *, source: str, advice: str = "check the export") -> None:
    """Raise DataContractError for a table without rows; users may be empty."""
    if table != "users":
        consequence = "the catalogue is empty" if table == "products" else "there are no events"
        raise DataContractError(f"{table}: {source} holds no rows, {consequence}; {advice}")


def raise_if_too_many_rejects(
    table: str, rejected: pl.DataFrame, rows_in: int, *, source: str, settings: DataSettings
) -> None:
    """Raise DataContractError if more rows are rejected than allowed, or all of them."""
    if exceeds_max_bad_fraction(rejected.height, rows_in, settings):
        reasons = rejects.summary(rejected, decimal=settings.decimal)
        raise too_many_rejects_error(table, rejected.height, rows_in, source=source, settings=settings, reasons=reasons)


def exceeds_max_bad_fraction(rejected: int, rows_in: int, settings: DataSettings) -> bool:
    """Return whether more rows are rejected than allowed, or all of them."""
    return bool(rejected) and (rejected > settings.max_bad_fraction * rows_in or rejected >= rows_in)


def too_many_rejects_error(
    table: str, rejected: int, rows_in: int, *, source: str, settings: DataSettings, reasons: Sequence[str]
) -> DataContractError:
    """Return the error for a source with too many rejected rows."""
    return DataContractError(
        f"{table}: {rejected:,} of {rows_in:,} rows of {source} were rejected, more than [data] "
        f"max_bad_fraction = {settings.max_bad_fraction:g} allows: {'; '.join(reasons)}"
    )
