"""The result of a command: counts, warnings, artifacts and tables, the same for people, scripts and Python.

In: the outcome of a command. Out: `CommandResult`, which `recsys.cli.console` prints and `to_json` turns into a dict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Table:
    """Rows of plain values, one tuple per row; `display` is shown to people instead, such as a tree."""

    name: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    display: Table | None = None

    @staticmethod
    def from_frame(name: str, frame: pl.DataFrame) -> Table:
        """Create a table from all rows of a polars frame."""
        return Table(name, tuple(frame.columns), frame.rows())

    def records(self) -> list[dict[str, Any]]:
        """Return one dictionary per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class CommandResult:
    """The outcome of one command.

    Attributes:
        command: name of the command.
        status: "done", or "nothing_new" when there was nothing to do.
        run_id: the run written, published or shown, if any.
        counts: whole numbers and measures by name.
        warnings: problems the user should know about although the command succeeded.
        artifacts: files and folders written, by name.
        tables: requested data; the first one is `rows` in the JSON document.
        notes: lines for people only, such as the next command.
    """

    command: str
    status: str = "done"
    run_id: str | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    artifacts: Mapping[str, Path | str] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document: fixed keys first, then `rows` and further tables by name."""
        document: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "status": self.status,
            "run_id": self.run_id,
            "counts": to_json_value(self.counts),
            "warnings": list(self.warnings),
            "artifacts": {name: str(path) for name, path in self.artifacts.items()},
        }
        if self.tables:
            document["rows"] = to_json_value(self.tables[0].records())
        if len(self.tables) > 1:
            document["tables"] = {table.name: to_json_value(table.records()) for table in self.tables[1:]}
        return document


def to_json_value(value: Any) -> Any:
    """Convert to JSON types: numpy scalars unwrapped, NaN and infinities null, times and paths as text."""
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json_value(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
