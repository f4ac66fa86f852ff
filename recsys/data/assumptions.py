"""Implicit conversions made during validation, counted per column over all batches, and their messages.

In: counts. Out: notes, and warnings about conversions that may be wrong.
"""

from __future__ import annotations

from collections import Counter

from recsys.data import schema

Assumptions = Counter[tuple[str, str, str]]
"""(kind, column, unit) to number of rows."""
UNITS, UNTYPED, FLOATS = "units", "untyped", "floats"


def assumption_messages(table: str, facts: Assumptions) -> tuple[list[str], list[str]]:
    """Return notes and warnings, in the order in which the assumptions were first made."""
    notes, warnings = [], []
    units: dict[str, list[str]] = {}
    for (kind, name, unit), number in facts.items():
        if kind == UNITS:
            units.setdefault(name, []).append(f"{number:,} as {unit}")
        elif kind == UNTYPED:
            notes.append(f"events: {number:,} without event_type count as {schema.PURCHASE}")
        else:
            notes.append(f"{table}: {name} came as floating point and was read as whole numbers")
    for name, counts in units.items():
        if len(counts) > 1:
            warnings.append(
                f"{table}: numbers in column {name} were read in different units: {', '.join(counts)}; check them"
            )
        else:
            notes.append(f"{table}: numbers in column {name} were read: {counts[0]}")
    return notes, warnings
