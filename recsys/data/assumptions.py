"""What was understood in silence while rows were judged: counts that can be added up over batches, and their words.

In: counts. Out: notes, and warnings where a person should look.
"""

from __future__ import annotations

from collections import Counter

from recsys.data import schema

Assumptions = Counter[tuple[str, str, str]]
"""(what, column, unit) to number of rows."""
UNITS, UNTYPED, FLOATS = "units", "untyped", "floats"


def assumption_messages(table: str, facts: Assumptions) -> tuple[list[str], list[str]]:
    """Notes and warnings, in the order in which the facts were first met."""
    notes, warnings = [], []
    units: dict[str, list[str]] = {}
    for (what, name, unit), number in facts.items():
        if what == UNITS:
            units.setdefault(name, []).append(f"{number:,} as {unit}")
        elif what == UNTYPED:
            notes.append(f"events: {number:,} without event_type count as {schema.PURCHASE}")
        else:
            notes.append(f"{table}: {name} came as floating point and was read as whole numbers")
    for name, found in units.items():
        if len(found) > 1:
            warnings.append(
                f"{table}: numbers in column {name} were read in different units: {', '.join(found)}; check them"
            )
        else:
            notes.append(f"{table}: numbers in column {name} were read: {found[0]}")
    return notes, warnings
