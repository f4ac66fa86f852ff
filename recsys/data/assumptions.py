"""Implicit conversions made during validation, counted per column over all batches, and their messages.

In: counts. Out: notes, and warnings about conversions that may be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from recsys.data import schema
from recsys.data.parsing import EXCEL_DAYS

Assumptions = Counter[tuple[str, str, str]]
"""(kind, column, unit or example) to number of rows."""

UNITS: Final = "units"
UNTYPED: Final = "untyped"
FLOATS: Final = "floats"
NULL_WORDS: Final = "null_words"
MARKUP: Final = "markup"
SHORTENED: Final = "shortened"
CURRENCY: Final = "currency"
GROUPED: Final = "grouped"
NEGATIVE_RETURN: Final = "negative_return"
SCIENTIFIC: Final = "scientific"
PLACEHOLDER: Final = "placeholder"
UNKNOWN_TYPE: Final = "unknown_type"
SIMILAR_PRODUCT: Final = "similar_product"
REPEATED: Final = "repeated"

_NOTES: Final = {
    FLOATS: "{table}: {column} came as floating point and was read as whole numbers",
    NULL_WORDS: "{table}: {number:,} cells of {column} hold NULL, nan, N/A or the like and were read as empty",
    MARKUP: "{table}: HTML was removed from {number:,} cells of {column}",
    CURRENCY: "{table}: {number:,} cells of {column} name a currency beside the number; it was read as column currency",
    GROUPED: "{table}: {number:,} numbers of {column} have thousands separators, which were removed",
    NEGATIVE_RETURN: "{table}: {number:,} returns have a quantity below zero, which was read without the sign",
}
_WARNINGS: Final = {
    SHORTENED: "{table}: {number:,} cells of {column} are longer than 100,000 characters and were shortened to that",
    SCIENTIFIC: "{table}: {number:,} ids of {column} look like 4.00638E+12, as Excel writes long numbers, so several "
    "may have become one; export the column as text",
    PLACEHOLDER: "{table}: {column} '{unit}' has {number:,} rows and may stand for many people; leave such rows out of "
    "the export, or leave the id empty",
    SIMILAR_PRODUCT: "{table}: {number:,} unknown product ids are in the catalogue but for case, spaces or accents "
    "(e.g. {unit}); write them alike",
}
_MAX_LINES: Final = 10
"""Lines of one kind that are shown."""


def assumption_messages(table: str, assumptions: Assumptions) -> tuple[list[str], list[str]]:
    """Return notes and warnings, in the order in which the assumptions were first made."""
    notes, warnings = [], []
    units: dict[str, list[str]] = {}
    types: list[tuple[str, int]] = []
    by_kind: Counter[str] = Counter()
    for (kind, column, unit), number in assumptions.items():
        if kind == UNITS:
            units.setdefault(column, []).append(f"{number:,} as {unit}")
            continue
        if kind == UNKNOWN_TYPE:
            types.append((unit, number))
            continue
        if kind == REPEATED:  # worth a line only as a share of all rows
            continue
        by_kind[kind] += 1
        values = {"table": table, "column": column, "unit": unit, "number": number}
        if kind == UNTYPED:
            notes.append(f"events: {number:,} without event_type count as {schema.PURCHASE}")
        elif kind in _NOTES:
            notes.append(_NOTES[kind].format(**values))
        elif by_kind[kind] <= _MAX_LINES:
            warnings.append(_WARNINGS[kind].format(**values))
    for column, counts in units.items():
        line = f"{table}: numbers in column {column} were read"
        if len(counts) > 1:
            warnings.append(f"{line} in different units: {', '.join(counts)}; check them")
        elif EXCEL_DAYS in counts[0]:
            warnings.append(f"{line}: {counts[0]}; check the dates, or export them as YYYY-MM-DD")
        else:
            notes.append(f"{line}: {counts[0]}")
    if types:
        warnings.append(_unknown_types(types))
    return notes, warnings


def _unknown_types(types: Iterable[tuple[str, int]]) -> str:
    ranked = sorted(types, key=lambda entry: (-entry[1], entry[0]))
    shown = ", ".join(f"{name!r} {number:,}" for name, number in ranked[:_MAX_LINES])
    further = f" and {len(ranked) - _MAX_LINES:,} more" if len(ranked) > _MAX_LINES else ""
    total = sum(number for _, number in ranked)
    return (
        f"events: {total:,} rows of unknown event types were left out: {shown}{further}; name their meaning with "
        f'[data] event_types = {{ "{ranked[0][0]}" = "view" }}, or "ignore" to leave them out without this line'
    )
