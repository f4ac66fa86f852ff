"""Validate the rows of one frame: parse its columns, and keep the first error of each row.

In: a raw frame with canonical columns, possibly with files.MARKS. Out: parsed columns with the reason of each row that
is rejected or filtered; cells that cannot be parsed but are not required become null.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import polars as pl

from recsys.config import DataSettings
from recsys.data import assumptions as facts
from recsys.data import attributes, schema
from recsys.data import parsing as parse
from recsys.data import rejected_rows as rejects
from recsys.data.assumptions import Assumptions
from recsys.data.file_readers import BAD, MARKS, ROW, SKIP, add_row_numbers
from recsys.data.text_cleaning import clean_column
from recsys.data.value_words import EVENT_TYPE_ALIASES, PLACEHOLDER_USERS

_DTYPES: Final[dict[schema.Kind, pl.DataType]] = {
    "id": pl.String(),
    "text": pl.String(),
    "number": pl.Float64(),
    "bool": pl.Boolean(),
    "time": pl.Int64(),
    "json": pl.String(),
}
_MARKUP_COLUMNS: Final = frozenset({schema.TITLE, schema.DESCRIPTION, schema.BRAND, schema.CATEGORY})
_TABLES_WITH_OPTIONAL_CELLS: Final = frozenset({"products", "users"})
"""Tables whose rows are kept if an optional cell cannot be parsed; of an event, every cell counts."""
_IGNORE: Final = "ignore"
UNKNOWN_TYPE: Final = "unknown_event_type"
IGNORED_TYPE: Final = "ignored_event_type"
_SCIENTIFIC: Final = r"^\d(?:[.,]\d+)?[eE]\+\d{1,3}$"


class RowValidator:
    """Parses the columns of a frame.

    Args:
        table: canonical table.
        frame: (n, c) raw rows.
        settings: how cells are parsed.
    """

    def __init__(self, table: str, frame: pl.DataFrame, settings: DataSettings) -> None:
        raw = frame if ROW in frame.columns else add_row_numbers(frame, start=1)
        empty = [pl.lit(None, dtype=pl.String).alias(name) for name in MARKS if name not in raw.columns]
        self.raw = raw.with_columns(empty)
        if self.raw[ROW].n_unique() < self.raw.height:  # row numbers of several files: number all rows instead
            self.raw = self.raw.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW))
        self.table, self.settings = table, settings
        self.assumptions: Assumptions = Assumptions()
        self.bad_cells: list[pl.DataFrame] = []
        self.filled: dict[str, int] = {}
        self._columns: dict[str, pl.Series] = {}
        self._closed = self.raw[BAD].is_not_null() | self.raw[SKIP].is_not_null()
        nulls = pl.Series([None] * frame.height, dtype=pl.String)
        codes = nulls.clone().set(self.raw[BAD].is_not_null(), "bad_row") if frame.height else nulls
        self._reasons = pl.DataFrame({"__code__": codes, "__column__": nulls, "__cell__": self.raw[BAD]})

    def validate(self, now: int, known_products: Collection[str] | pl.Series | None) -> pl.DataFrame:
        """Return the parsed columns with ROW, SKIP and the reasons; a row that could not be parsed is not filtered.

        Args:
            now: UTC seconds.
            known_products: product ids that events may refer to; None accepts every id.
        """
        if self.table == "events":
            self._filter_event_types()
        for column in schema.TABLES[self.table]:
            self._parse_column(column)
        if self.table == "events":
            self._validate_events(now, known_products)
        if self.table == "users":
            self.reject(self._columns[schema.USER_ID] == schema.DEFAULT_USER, "reserved_id", schema.USER_ID)
        skip = self.raw.select(pl.when(pl.col(BAD).is_null()).then(pl.col(SKIP)).alias(SKIP)).to_series()
        columns = [self._columns[column.name].alias(column.name) for column in schema.TABLES[self.table]]
        return pl.DataFrame([self.raw[ROW], skip, *columns]).hstack(self._reasons)

    def reject(self, is_bad: pl.Series, code: str, column: str) -> None:
        """Reject the rows of the mask with a code, but those that are rejected or filtered already."""
        is_bad = is_bad.fill_null(value=False) & ~self._closed
        if not is_bad.any():
            return
        self._closed = self._closed | is_bad
        reason: dict[str, pl.Expr | pl.Series] = {
            "__code__": pl.lit(code),
            "__column__": pl.lit(column),
            "__cell__": self._raw_cells(column),
        }
        self._reasons = self._reasons.with_columns(
            pl.when(is_bad).then(value).otherwise(pl.col(name)).alias(name) for name, value in reason.items()
        )

    def _reject_or_clear(self, is_bad: pl.Series, code: str, column: schema.Column, cells: pl.Series) -> pl.Series:
        """Reject rows with a bad cell; of products and users, clear the cell instead if it is optional."""
        if column.required or self.table not in _TABLES_WITH_OPTIONAL_CELLS:
            self.reject(is_bad, code, column.name)
            return cells
        is_bad = is_bad.fill_null(value=False) & ~self._closed
        if not is_bad.any():
            return cells
        reasons = pl.DataFrame(
            {
                "__code__": [code] * len(is_bad),
                "__column__": [column.name] * len(is_bad),
                "__cell__": self._raw_cells(column.name),
            }
        )
        bad = self.raw.drop(SKIP).hstack(reasons).filter(is_bad)
        self.bad_cells.append(rejects.rejected_rows(bad, source="", table=self.table))
        return cells.set(is_bad, None)

    def _filter(self, mask: pl.Series, code: str) -> None:
        mask = mask.fill_null(value=False) & ~self._closed
        if mask.any():
            self._closed = self._closed | mask
            self.raw = self.raw.with_columns(self.raw[SKIP].set(mask, code).alias(SKIP))

    def _raw_cells(self, column: str) -> pl.Series:
        if column in self.raw.columns:
            return parse.text(self.raw[column])
        return pl.Series([None] * self.raw.height, dtype=pl.String)

    def _parse_column(self, column: schema.Column) -> None:
        """Parse a canonical column; reject rows, or clear cells, that cannot be parsed."""
        name, kind = column.name, column.kind
        if name in self._columns and name in self.raw.columns and name == schema.EVENT_TYPE:
            return
        if name == schema.AVAILABLE and name not in self.raw.columns:
            # Without the column all products are sold; an empty cell of the column means unknown.
            self._columns[name] = pl.Series(name, [True] * self.raw.height, dtype=pl.Boolean)
        elif name not in self.raw.columns:
            self._columns.setdefault(name, pl.Series(name, [None] * self.raw.height, dtype=_DTYPES[kind]))
        elif kind == "id":
            self._parse_id(name)
        elif kind in {"text", "json"}:
            self._parse_text(column)
        else:
            self._parse_value(column)
        if column.required:
            self.reject(self._columns[name].is_null(), "missing_time" if kind == "time" else "missing_id", name)

    def _parse_id(self, name: str) -> None:
        cells, from_float = parse.ids(self.raw[name])
        if from_float:
            self.assumptions[facts.FLOATS, name, ""] += cells.len()
        cells = self._drop_null_words(cells, name)
        n_scientific = int(cells.str.contains(_SCIENTIFIC).sum())
        if n_scientific:
            self.assumptions[facts.SCIENTIFIC, name, ""] += n_scientific
        if name == schema.USER_ID:
            is_placeholder = cells.str.strip_chars().str.to_lowercase().is_in(PLACEHOLDER_USERS)
            for value, number in cells.filter(is_placeholder).value_counts().rows():
                if number * 100 >= cells.len():  # a rare one is likely to be an id
                    self.assumptions[facts.PLACEHOLDER, name, value] += number
        self.reject(cells.str.contains("\x00", literal=True), "nul_in_text", name)
        self.reject(cells.str.len_chars() > rejects.LIMITS["id"], "too_long", name)
        self._columns[name] = cells

    def _parse_text(self, column: schema.Column) -> None:
        name, kind = column.name, column.kind
        cells = parse.text(self.raw[name])
        if kind == "text":
            cells = self._drop_null_words(parse.text(cells.str.strip_chars()), name)
            if name in _MARKUP_COLUMNS:
                cells, n_markup = clean_column(cells)
                if n_markup:
                    self.assumptions[facts.MARKUP, name, ""] += n_markup
            too_long = cells.str.len_chars() > rejects.LIMITS[kind]
            if self.table in _TABLES_WITH_OPTIONAL_CELLS and too_long.any():
                self.assumptions[facts.SHORTENED, name, ""] += int(too_long.sum())
                cells = cells.str.slice(0, rejects.LIMITS[kind])
            self.reject(cells.str.contains("\x00", literal=True), "nul_in_text", name)
            self.reject(cells.str.len_chars() > rejects.LIMITS[kind], "too_long", name)
        else:
            self.reject(cells.str.contains("\x00", literal=True), "nul_in_text", name)
            too_long = cells.str.len_chars() > rejects.LIMITS[kind]
            cells = self._reject_or_clear(too_long, "too_long", column, cells)
            parsed, is_bad = attributes.canonicalize(cells)
            cells = self._reject_or_clear(is_bad, "bad_json", column, parsed)
            self.reject(cells.str.contains("\\u0000", literal=True), "nul_in_text", name)
        self._columns[name] = cells

    def _drop_null_words(self, cells: pl.Series, name: str) -> pl.Series:
        cells, n_words = parse.without_null_words(cells)
        if n_words:
            self.assumptions[facts.NULL_WORDS, name, ""] += n_words
        return cells

    def _parse_value(self, column: schema.Column) -> None:
        name, kind = column.name, column.kind
        raw = self.raw[name]
        if raw.dtype == pl.String:
            raw = self._drop_null_words(raw, name)
        filled = _is_filled(raw)
        self.filled[name] = int(filled.sum())
        if kind == "number":
            cells = self._parse_number(column, raw, filled)
        elif kind == "bool":
            cells = parse.booleans(raw)
            cells = self._reject_or_clear(filled & cells.is_null(), "bad_truth", column, cells)
        else:
            cells, units = parse.times(raw, timezone=self.settings.timezone, date_format=self.settings.date_format)
            self.assumptions.update({(facts.UNITS, name, unit): number for unit, number in units.items()})
            cells = self._reject_or_clear((filled & cells.is_null()) | (cells < 0), "bad_time", column, cells)
        self._columns[name] = cells

    def _parse_number(self, column: schema.Column, raw: pl.Series, filled: pl.Series) -> pl.Series:
        name, decimal = column.name, self.settings.decimal
        if name in {schema.PRICE, schema.VALUE}:
            cells, currencies = parse.prices(raw, decimal=decimal)
            n_currencies = int((cells.is_not_null() & filled & parse.numbers(raw, decimal=decimal).is_null()).sum())
            if n_currencies:
                self.assumptions[facts.CURRENCY, name, ""] += n_currencies
            if self.table == "products" and currencies.null_count() < currencies.len():
                given = parse.text(self.raw[schema.CURRENCY]) if schema.CURRENCY in self.raw.columns else None
                merged = currencies if given is None else given.zip_with(given.is_not_null(), currencies)
                self.raw = self.raw.with_columns(merged.alias(schema.CURRENCY))
        else:
            cells = parse.numbers(raw, decimal=decimal)
        n_grouped = int(raw.str.contains(r"\d[,.'’\s]\d{3}(?:\D|$)").sum()) if raw.dtype == pl.String else 0
        if n_grouped and cells.is_not_null().any():
            is_grouped = cells.is_not_null() & (cells.abs() >= 1000) & raw.str.contains(r"\d[,.'’\s]\d{3}(?:\D|$)")
            if is_grouped.any():
                self.assumptions[facts.GROUPED, name, ""] += int(is_grouped.sum())
        cells = self._reject_or_clear(filled & cells.is_null(), "bad_number", column, cells)
        if name == schema.QUANTITY:
            is_return = self._columns[schema.EVENT_TYPE] == "return"
            n_negative = int((is_return & (cells < 0)).sum())
            if n_negative:
                self.assumptions[facts.NEGATIVE_RETURN, name, ""] += n_negative
                cells = cells.zip_with(~(is_return & (cells < 0)).fill_null(value=False), cells.abs())
        if name in {schema.PRICE, schema.QUANTITY}:
            cells = self._reject_or_clear(cells < 0, "negative_number", column, cells)
        return cells

    def _filter_event_types(self) -> None:
        """Map event types to the known ones; filter events of other types."""
        name = schema.EVENT_TYPE
        if name not in self.raw.columns:
            event_types = pl.Series(name, [None] * self.raw.height, dtype=pl.String)
        else:
            event_types = self._drop_null_words(parse.text(parse.text(self.raw[name]).str.strip_chars()), name)
        n_missing = event_types.filter(~self._closed).null_count()
        if n_missing:
            self.assumptions[facts.UNTYPED, name, ""] += n_missing
        distinct = event_types.drop_nulls().unique()
        mapping = {value: self._map_event_type(value) for value in distinct.to_list()}
        mapped = event_types.fill_null(schema.PURCHASE).replace(
            pl.Series(list(mapping), dtype=pl.String), pl.Series(list(mapping.values()), dtype=pl.String)
        )
        self._filter(mapped == _IGNORE, IGNORED_TYPE)
        is_unknown = ~mapped.is_in(list(schema.EVENT_TYPES)) & ~self._closed
        for value, number in event_types.filter(is_unknown).value_counts().rows():
            self.assumptions[facts.UNKNOWN_TYPE, name, str(value)[:60]] += number
        self._filter(is_unknown, UNKNOWN_TYPE)
        self._columns[name] = mapped.alias(name)

    def _map_event_type(self, value: str) -> str:
        configured = self.settings.event_types
        for key in (value, value.lower()):
            if key in configured:
                return configured[key]
        if value.lower() in schema.EVENT_TYPES:
            return value.lower()
        letters = "".join(character for character in value.lower() if character.isalnum())
        return EVENT_TYPE_ALIASES.get(letters, value)

    def _validate_events(self, now: int, known_products: Collection[str] | pl.Series | None) -> None:
        """Apply the checks of events."""
        columns = self._columns
        columns[schema.QUANTITY] = columns[schema.QUANTITY].fill_null(1.0)
        columns[schema.ORDER_ID] = columns[schema.ORDER_ID].fill_null("")
        self.reject(columns[schema.ORDER_ID].str.len_chars() > rejects.LIMITS["id"], "too_long", schema.ORDER_ID)
        self.reject(columns[schema.USER_ID] == schema.DEFAULT_USER, "reserved_id", schema.USER_ID)
        self.reject(columns[schema.OCCURRED_AT] > now + schema.DAY, "future_time", schema.OCCURRED_AT)
        if known_products is not None:
            ids = known_products if isinstance(known_products, pl.Series) else list(known_products)
            catalogue = pl.Series(ids, dtype=pl.String)
            is_unknown = ~columns[schema.PRODUCT_ID].is_in(catalogue.implode())
            self._count_similar_products(columns[schema.PRODUCT_ID].filter(is_unknown & ~self._closed), catalogue)
            self.reject(is_unknown, "unknown_product", schema.PRODUCT_ID)

    def _count_similar_products(self, unknown: pl.Series, catalogue: pl.Series) -> None:
        """Count unknown product ids that equal one of the catalogue but for case, spaces or Unicode form."""
        if not unknown.len():
            return
        folded = pl.DataFrame({"folded": fold_ids(catalogue), "similar": catalogue}).unique("folded", keep="first")
        matches = pl.DataFrame({"folded": fold_ids(unknown), "id": unknown}).join(folded, on="folded", how="inner")
        if matches.height:
            example = f"{matches['id'][0]!r} and {matches['similar'][0]!r}"
            self.assumptions[facts.SIMILAR_PRODUCT, schema.PRODUCT_ID, example] += matches.height


def fold_ids(ids: pl.Series) -> pl.Series:
    """Return ids without differences of case, outer spaces and Unicode form."""
    return ids.str.normalize("NFC").str.strip_chars().str.to_lowercase()


def _is_filled(raw: pl.Series) -> pl.Series:
    """Return which cells are not empty; pandas writes an empty number as NaN."""
    if raw.dtype.is_float():
        return raw.is_not_null() & ~raw.is_nan().fill_null(value=False)
    if raw.dtype == pl.String:
        return (raw.str.strip_chars() != "").fill_null(value=False)
    return raw.is_not_null()
