"""The door: each row of an input table is used, rejected with a reason, or left out on purpose, and counted as one.

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
    """What became of one table of one source; `rows_in == used + rejected + filtered`, always.

    Attributes:
        accepted: (a, c) all canonical columns in their types; times are UTC seconds, events carry `line_no`.
        rejected: (r, 7) schema.REJECTED_COLUMNS.
        filtered: reason to number of rows left out on purpose.
        rows_in: rows that came in.
        facts: what was understood in silence (units of times, default event types), as counts.
        more: further warnings.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    filtered: dict[str, int]
    rows_in: int
    table: str
    facts: Assumptions = field(default_factory=Assumptions, repr=False)
    more: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at."""
        return (*assumption_messages(self.table, self.facts)[1], *self.more)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was understood in silence."""
        return tuple(assumption_messages(self.table, self.facts)[0])


def validate(
    table: str,
    frame: pl.DataFrame,
    *,
    source: str,
    settings: DataSettings,
    now: int,
    known_products: Collection[str] | None = None,
) -> ValidationResult:
    """Judge each row of a table; the first thing wrong with a row is its code.

    Args:
        table: `products`, `events` or `users`.
        frame: (n, c) canonical columns of any type, perhaps with files.MARKS; missing columns count as empty.
        source: name of the source, for messages and `rejected_rows`.
        settings: decimal mark and the share of rejects that is allowed.
        now: UTC seconds; events later than a day after it are rejected.
        known_products: ids an event may name; None = all.

    Raises:
        DataContractError: no rows at all in products or events, or more rejects than `max_bad_fraction`.
    """
    if not frame.height:
        refuse_empty(table, source=source)
    checked = validate_batch(table, frame, source=source, settings=settings, now=now, known_products=known_products)
    raise_if_too_many_rejects(table, checked.rejected, checked.rows_in, source=source, settings=settings)
    if table != "products":
        return checked
    return replace(checked, more=tuple(warn_similar_ids(checked.accepted[schema.PRODUCT_ID])))


def validate_batch(
    table: str,
    frame: pl.DataFrame,
    *,
    source: str,
    settings: DataSettings,
    now: int,
    known_products: Collection[str] | pl.Series | None = None,
    twins: Deduplicator | None = None,
) -> ValidationResult:
    """As `validate`, for one batch of many, however few rows it has and however much of it is rejected.

    `twins` is what the earlier batches held; None = there are none.
    """
    judge = _RowValidator(table, frame, settings)
    for column in schema.TABLES[table]:
        judge.column(column)
    if table == "events":
        judge.events(now, known_products)
    parsed = judge.finish()
    bad, skipped = parsed["__code__"].is_not_null(), parsed[SKIP].is_not_null()
    filtered = dict(parsed.filter(skipped).group_by(SKIP).len().sort(SKIP).rows())
    good = parsed.filter(~bad & ~skipped)
    if table == "events":
        good = twins.number_duplicates(good) if twins else line_numbers(good)
    else:
        good, twice, same = twins.firsts(good, _KEYS[table]) if twins else drop_duplicates(good, _KEYS[table])
        if same:
            filtered["duplicate"] = same
        parsed = parsed.join(twice, on=ROW, how="left", maintain_order="left")
        late = pl.col("__twin__").is_not_null()
        parsed = parsed.with_columns(
            pl.when(late).then(pl.lit("conflicting_duplicate")).otherwise(pl.col("__code__")).alias("__code__"),
            pl.when(late).then(pl.lit(_KEYS[table])).otherwise(pl.col("__column__")).alias("__column__"),
            pl.when(late).then(pl.col(_KEYS[table])).otherwise(pl.col("__cell__")).alias("__cell__"),
        )
        bad = parsed["__code__"].is_not_null()
    verdict = parsed.filter(bad).select(ROW, "__code__", "__column__", "__cell__")
    originals = judge.raw.drop(SKIP).join(verdict, on=ROW, how="inner", maintain_order="left")
    rejected = rejects.rejected_rows(originals, source=source, table=table)
    accepted = good.drop([name for name in good.columns if name.startswith("__")])
    checked = ValidationResult(accepted, rejected, filtered, frame.height, table, judge.facts)
    if accepted.height + rejected.height + sum(filtered.values()) != frame.height:
        raise AssertionError(f"{table}: rows do not add up")  # a bug of ours, never of the data
    return checked


class _RowValidator:
    """Parses the columns of one frame and keeps, for each row, the first problem found."""

    def __init__(self, table: str, frame: pl.DataFrame, settings: DataSettings) -> None:
        raw = frame if ROW in frame.columns else add_row_numbers(frame, start=1)
        empty = [pl.lit(None, dtype=pl.String).alias(name) for name in MARKS if name not in raw.columns]
        self.raw = raw.with_columns(empty)
        if self.raw[ROW].n_unique() < self.raw.height:  # parts of several files: count through instead
            self.raw = self.raw.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW))
        self.table, self.settings = table, settings
        self.facts: Assumptions = Assumptions()
        self._columns: dict[str, pl.Series] = {}
        self._closed = self.raw[BAD].is_not_null() | self.raw[SKIP].is_not_null()
        none = pl.Series([None] * frame.height, dtype=pl.String)
        code = none.clone().set(self.raw[BAD].is_not_null(), "bad_row") if frame.height else none
        self._verdict = pl.DataFrame({"__code__": code, "__column__": none, "__cell__": self.raw[BAD]})

    def reject(self, bad: pl.Series, code: str, column: str) -> None:
        """Give the code to the rows of the mask that have none yet."""
        bad = bad.fill_null(value=False) & ~self._closed
        if not bad.any():
            return
        cells = (
            parse.text(self.raw[column])
            if column in self.raw.columns
            else pl.Series([None] * len(bad), dtype=pl.String)
        )
        self._closed = self._closed | bad
        given: dict[str, pl.Expr | pl.Series] = {
            "__code__": pl.lit(code),
            "__column__": pl.lit(column),
            "__cell__": cells,
        }
        self._verdict = self._verdict.with_columns(
            pl.when(bad).then(value).otherwise(pl.col(name)).alias(name) for name, value in given.items()
        )

    def column(self, column: schema.Column) -> None:
        """Parse one canonical column and reject what cannot be."""
        name, kind = column.name, column.kind
        if name == schema.AVAILABLE and name not in self.raw.columns:
            # A list without such a column names what is sold; an empty cell in one means nobody knows.
            self._columns[name] = pl.Series(name, [True] * self.raw.height, dtype=pl.Boolean)
        elif name not in self.raw.columns:
            self._columns[name] = pl.Series(name, [None] * self.raw.height, dtype=_DTYPES[kind])
        elif kind in {"id", "text", "json"}:
            self._words(name, kind)
        else:
            self._values(name, kind)
        if column.required:
            self.reject(self._columns[name].is_null(), "missing_time" if kind == "time" else "missing_id", name)

    def _words(self, name: str, kind: schema.Kind) -> None:
        cells = parse.text(self.raw[name])
        if kind == "id":
            cells, from_float = parse.ids(self.raw[name])
            if from_float:
                self.facts[FLOATS, name, ""] += cells.len()
        elif kind == "text":
            stripped = cells.str.strip_chars()
            cells = parse.text(stripped)
        self.reject(cells.str.contains("\x00", literal=True), "nul_in_text", name)
        self.reject(cells.str.len_chars() > rejects.LIMITS[kind], "too_long", name)
        if kind == "json":
            cells, bad = attributes.canonicalize(cells)
            self.reject(bad, "bad_json", name)
            self.reject(cells.str.contains("\\u0000", literal=True), "nul_in_text", name)
        self._columns[name] = cells

    def _values(self, name: str, kind: schema.Kind) -> None:
        raw = self.raw[name]
        filled = self._filled(raw)
        if kind == "number":
            cells = parse.numbers(raw, decimal=self.settings.decimal)
            self.reject(filled & cells.is_null(), "bad_number", name)
            if name in {schema.PRICE, schema.QUANTITY}:
                self.reject(cells < 0, "negative_number", name)
        elif kind == "bool":
            cells = parse.truths(raw)
            self.reject(filled & cells.is_null(), "bad_truth", name)
        else:
            cells, units = parse.times(raw)
            self.reject((filled & cells.is_null()) | (cells < 0), "bad_time", name)
            self.facts.update({(UNITS, name, unit): number for unit, number in units.items()})
        self._columns[name] = cells

    def _filled(self, raw: pl.Series) -> pl.Series:
        """Where a cell holds something; NaN is how pandas writes an empty number."""
        if raw.dtype.is_float():
            return raw.is_not_null() & ~raw.is_nan().fill_null(value=False)
        if raw.dtype == pl.String:
            return (raw.str.strip_chars() != "").fill_null(value=False)
        return raw.is_not_null()

    def events(self, now: int, known_products: Collection[str] | pl.Series | None) -> None:
        """What only events are asked."""
        columns = self._columns
        kinds = columns[schema.EVENT_TYPE].str.to_lowercase()
        if kinds.null_count():
            self.facts[UNTYPED, schema.EVENT_TYPE, ""] += kinds.null_count()
        kinds = kinds.fill_null(schema.PURCHASE).replace(_ALIASES)
        columns[schema.EVENT_TYPE] = kinds
        self.reject(~kinds.is_in(list(schema.EVENT_TYPES)), "unknown_event_type", schema.EVENT_TYPE)
        columns[schema.QUANTITY] = columns[schema.QUANTITY].fill_null(1.0)
        columns[schema.ORDER_ID] = columns[schema.ORDER_ID].fill_null("")
        self.reject(columns[schema.ORDER_ID].str.len_chars() > rejects.LIMITS["id"], "too_long", schema.ORDER_ID)
        self.reject(columns[schema.USER_ID] == schema.DEFAULT_USER, "reserved_id", schema.USER_ID)
        self.reject(columns[schema.OCCURRED_AT] > now + schema.DAY, "future_time", schema.OCCURRED_AT)
        if known_products is not None:
            given = known_products if isinstance(known_products, pl.Series) else list(known_products)
            known = pl.Series(given, dtype=pl.String)
            self.reject(~columns[schema.PRODUCT_ID].is_in(known.implode()), "unknown_product", schema.PRODUCT_ID)

    def finish(self) -> pl.DataFrame:
        """Parsed columns beside ROW, SKIP and the verdict; a row that could not be read was not left out."""
        if self.table == "users":
            self.reject(self._columns[schema.USER_ID] == schema.DEFAULT_USER, "reserved_id", schema.USER_ID)
        skip = self.raw.select(pl.when(pl.col(BAD).is_null()).then(pl.col(SKIP)).alias(SKIP)).to_series()
        columns = [column.alias(name) for name, column in self._columns.items()]
        return pl.DataFrame([self.raw[ROW], skip, *columns]).hstack(self._verdict)


def refuse_empty(table: str, *, source: str, advice: str = "check the export") -> None:
    """Raise DataContractError for a table without rows; there may be no users."""
    if table != "users":
        what = "the catalogue is empty" if table == "products" else "there are no events"
        raise DataContractError(f"{table}: {source} holds no rows, {what}; {advice}")


def raise_if_too_many_rejects(
    table: str, rejected: pl.DataFrame, rows_in: int, *, source: str, settings: DataSettings
) -> None:
    """Raise DataContractError where more rows are rejected than allowed, or all of them."""
    if too_many(rejected.height, rows_in, settings):
        reasons = rejects.summary(rejected, decimal=settings.decimal)
        raise refusal(table, rejected.height, rows_in, source=source, settings=settings, reasons=reasons)


def too_many(rejected: int, rows_in: int, settings: DataSettings) -> bool:
    """Whether more rows are rejected than allowed, or all of them."""
    return bool(rejected) and (rejected > settings.max_bad_fraction * rows_in or rejected >= rows_in)


def refusal(
    table: str, rejected: int, rows_in: int, *, source: str, settings: DataSettings, reasons: Sequence[str]
) -> DataContractError:
    """The error for a source of which too much is rejected."""
    return DataContractError(
        f"{table}: {rejected:,} of {rows_in:,} rows of {source} were rejected, more than [data] "
        f"max_bad_fraction = {settings.max_bad_fraction:g} allows: {'; '.join(reasons)}"
    )
