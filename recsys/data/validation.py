"""Validate input tables: every row is accepted, rejected with a reason code, or filtered, and counted.

In: raw frames with canonical columns. Out: typed accepted rows, rejected rows with codes, counts of filtered ones.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl

from recsys.config import DataSettings
from recsys.data import attributes, schema
from recsys.data import parsing as parse
from recsys.data import rejected_rows as rejects
from recsys.data.assumptions import FLOATS, UNITS, UNTYPED, Assumptions, assumption_messages
from recsys.data.deduplication import Deduplicator, drop_duplicates, line_numbers, warn_similar_ids
from recsys.data.file_readers import BAD, MARKS, ROW, SKIP, add_row_numbers
from recsys.errors import DataContractError

_DTYPES: Final[dict[schema.Kind, pl.DataType]] = {
    "id": pl.String(),
    "text": pl.String(),
    "number": pl.Float64(),
    "bool": pl.Boolean(),
    "time": pl.Int64(),
    "json": pl.String(),
}
_ALIASES: Final = {
    "buy": "purchase", "bought": "purchase", "order": "purchase", "transaction": "purchase", "sale": "purchase",
    "click": "view", "watch": "view", "page_view": "view", "pageview": "view", "detail": "view", "view_item": "view",
    "addtocart": "add_to_cart", "add-to-cart": "add_to_cart", "cart": "add_to_cart", "add to cart": "add_to_cart",
    "favourite": "wishlist", "favorite": "wishlist", "like": "wishlist", "add_to_wishlist": "wishlist",
    "rate": "rating", "review": "rating", "refund": "return", "returned": "return",
}  # fmt: skip
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
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    filtered: dict[str, int]
    rows_in: int
    table: str
    assumptions: Assumptions = field(default_factory=Assumptions, repr=False)
    extra_warnings: tuple[str, ...] = ()

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
) -> ValidationResult:
    """Validate the rows of a table; the code of a row is that of its first error.

    Args:
        table: `products`, `events` or `users`.
        frame: (n, c) canonical columns of any type, optionally with files.MARKS; missing columns count as empty.
        source: name of the source, for messages and `rejected_rows`.
        settings: decimal mark and the allowed share of rejected rows.
        now: UTC seconds; events more than a day later are rejected.
        known_products: product ids of the catalogue; None accepts every id.

    Raises:
        DataContractError: products or events have no rows, or more rows are rejected than `max_bad_fraction` allows.
    """
    if not frame.height:
        raise_for_empty_table(table, source=source)
    checked = validate_batch(table, frame, source=source, settings=settings, now=now, known_products=known_products)
    raise_if_too_many_rejects(table, checked.rejected, checked.rows_in, source=source, settings=settings)
    if table != "products":
        return checked
    return replace(checked, extra_warnings=tuple(warn_similar_ids(checked.accepted[schema.PRODUCT_ID])))


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
    validator = _RowValidator(table, frame, settings)
    for column in schema.TABLES[table]:
        validator.column(column)
    if table == "events":
        validator.events(now, known_products)
    parsed = validator.finish()
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
    checked = ValidationResult(accepted, rejected, filtered, frame.height, table, validator.facts)
    if accepted.height + rejected.height + sum(filtered.values()) != frame.height:
        raise AssertionError(f"{table}: rows do not add up")  # a bug in this module, whatever the data
    return checked


class _RowValidator:
    """Parses the columns of a frame and keeps the first error of each row."""

    def __init__(self, table: str, frame: pl.DataFrame, settings: DataSettings) -> None:
        raw = frame if ROW in frame.columns else add_row_numbers(frame, start=1)
        empty = [pl.lit(None, dtype=pl.String).alias(name) for name in MARKS if name not in raw.columns]
        self.raw = raw.with_columns(empty)
        if self.raw[ROW].n_unique() < self.raw.height:  # row numbers of several files: number all rows instead
            self.raw = self.raw.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW))
        self.table, self.settings = table, settings
        self.facts: Assumptions = Assumptions()
        self._columns: dict[str, pl.Series] = {}
        self._closed = self.raw[BAD].is_not_null() | self.raw[SKIP].is_not_null()
        nulls = pl.Series([None] * frame.height, dtype=pl.String)
        codes = nulls.clone().set(self.raw[BAD].is_not_null(), "bad_row") if frame.height else nulls
        self._reasons = pl.DataFrame({"__code__": codes, "__column__": nulls, "__cell__": self.raw[BAD]})

    def reject(self, is_bad: pl.Series, code: str, column: str) -> None:
        """Reject the rows of the mask with a code, but those that are rejected already."""
        is_bad = is_bad.fill_null(value=False) & ~self._closed
        if not is_bad.any():
            return
        cells = (
            parse.text(self.raw[column])
            if column in self.raw.columns
            else pl.Series([None] * len(is_bad), dtype=pl.String)
        )
        self._closed = self._closed | is_bad
        reason: dict[str, pl.Expr | pl.Series] = {
            "__code__": pl.lit(code),
            "__column__": pl.lit(column),
            "__cell__": cells,
        }
        self._reasons = self._reasons.with_columns(
            pl.when(is_bad).then(value).otherwise(pl.col(name)).alias(name) for name, value in reason.items()
        )

    def column(self, column: schema.Column) -> None:
        """Parse a canonical column and reject rows that cannot be parsed."""
        name, kind = column.name, column.kind
        if name == schema.AVAILABLE and name not in self.raw.columns:
            # Without the column all products are sold; an empty cell of the column means unknown.
            self._columns[name] = pl.Series(name, [True] * self.raw.height, dtype=pl.Boolean)
        elif name not in self.raw.columns:
            self._columns[name] = pl.Series(name, [None] * self.raw.height, dtype=_DTYPES[kind])
        elif kind in {"id", "text", "json"}:
            self._parse_text(name, kind)
        else:
            self._parse_values(name, kind)
        if column.required:
            self.reject(self._columns[name].is_null(), "missing_time" if kind == "time" else "missing_id", name)

    def _parse_text(self, name: str, kind: schema.Kind) -> None:
        cells = parse.text(self.raw[name])
        if kind == "id":
            cells, from_float = parse.ids(self.raw[name])
            if from_float:
                self.facts[FLOATS, name, ""] += cells.len()
        elif kind == "text":
            cells = parse.text(cells.str.strip_chars())
        self.reject(cells.str.contains("\x00", literal=True), "nul_in_text", name)
        self.reject(cells.str.len_chars() > rejects.LIMITS[kind], "too_long", name)
        if kind == "json":
            cells, is_bad = attributes.canonicalize(cells)
            self.reject(is_bad, "bad_json", name)
            self.reject(cells.str.contains("\\u0000", literal=True), "nul_in_text", name)
        self._columns[name] = cells

    def _parse_values(self, name: str, kind: schema.Kind) -> None:
        raw = self.raw[name]
        filled = self._is_filled(raw)
        if kind == "number":
            cells = parse.numbers(raw, decimal=self.settings.decimal)
            self.reject(filled & cells.is_null(), "bad_number", name)
            if name in {schema.PRICE, schema.QUANTITY}:
                self.reject(cells < 0, "negative_number", name)
        elif kind == "bool":
            cells = parse.booleans(raw)
            self.reject(filled & cells.is_null(), "bad_truth", name)
        else:
            cells, units = parse.times(raw)
            self.reject((filled & cells.is_null()) | (cells < 0), "bad_time", name)
            self.facts.update({(UNITS, name, unit): number for unit, number in units.items()})
        self._columns[name] = cells

    def _is_filled(self, raw: pl.Series) -> pl.Series:
        """Return which cells are not empty; pandas writes an empty number as NaN."""
        if raw.dtype.is_float():
            return raw.is_not_null() & ~raw.is_nan().fill_null(value=False)
        if raw.dtype == pl.String:
            return (raw.str.strip_chars() != "").fill_null(value=False)
        return raw.is_not_null()

    def events(self, now: int, known_products: Collection[str] | pl.Series | None) -> None:
        """Apply the checks of events."""
        columns = self._columns
        event_types = columns[schema.EVENT_TYPE].str.to_lowercase()
        if event_types.null_count():
            self.facts[UNTYPED, schema.EVENT_TYPE, ""] += event_types.null_count()
        event_types = event_types.fill_null(schema.PURCHASE).replace(_ALIASES)
        columns[schema.EVENT_TYPE] = event_types
        self.reject(~event_types.is_in(list(schema.EVENT_TYPES)), "unknown_event_type", schema.EVENT_TYPE)
        columns[schema.QUANTITY] = columns[schema.QUANTITY].fill_null(1.0)
        columns[schema.ORDER_ID] = columns[schema.ORDER_ID].fill_null("")
        self.reject(columns[schema.ORDER_ID].str.len_chars() > rejects.LIMITS["id"], "too_long", schema.ORDER_ID)
        self.reject(columns[schema.USER_ID] == schema.DEFAULT_USER, "reserved_id", schema.USER_ID)
        self.reject(columns[schema.OCCURRED_AT] > now + schema.DAY, "future_time", schema.OCCURRED_AT)
        if known_products is not None:
            ids = known_products if isinstance(known_products, pl.Series) else list(known_products)
            catalogue = pl.Series(ids, dtype=pl.String)
            self.reject(~columns[schema.PRODUCT_ID].is_in(catalogue.implode()), "unknown_product", schema.PRODUCT_ID)

    def finish(self) -> pl.DataFrame:
        """Return the parsed columns with ROW, SKIP and the reasons; a row that could not be parsed is not filtered."""
        if self.table == "users":
            self.reject(self._columns[schema.USER_ID] == schema.DEFAULT_USER, "reserved_id", schema.USER_ID)
        skip = self.raw.select(pl.when(pl.col(BAD).is_null()).then(pl.col(SKIP)).alias(SKIP)).to_series()
        columns = [column.alias(name) for name, column in self._columns.items()]
        return pl.DataFrame([self.raw[ROW], skip, *columns]).hstack(self._reasons)


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
