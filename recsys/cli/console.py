"""Console output: data on stdout, messages on stderr, one JSON document with `--json`.

In: a `CommandResult` or an error. Out: rich tables and lines, or JSON. Control characters are stripped from the shop's
texts, which are never interpreted as markup.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from recsys.log import printable, redact
from recsys.pipeline.result import SCHEMA_VERSION, CommandResult, Table

_PIPE_WIDTH = 200
_PROGRESS_SECONDS = 30.0


def create_console(*, stderr: bool = False) -> Console:
    """Create a console for one stream.

    Rich itself respects NO_COLOR. A pipe has no width, so a large one is set to keep lines whole.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False, soft_wrap=stderr)


def print_result(result: CommandResult, *, quiet: bool) -> None:
    """Print a result as text."""
    out, err = create_console(), create_console(stderr=True)
    for i, table in enumerate(result.tables):
        if table.rows or i == 0:
            out.print(_to_rich_table(table.display or table))
    if quiet:
        return
    for warning in result.warnings:
        err.print(Text(f"warning: {printable(redact(warning))}", style="yellow"))
    counts = {name: value for name, value in result.counts.items() if not isinstance(value, dict)}
    if counts:
        err.print(Text("  ".join(f"{name} {_format_cell(value)}" for name, value in counts.items())))
    for name, path in result.artifacts.items():
        err.print(Text(f"{name}: {printable(str(path))}"))
    for note in result.notes:
        err.print(Text(printable(note)))


def print_json(document: dict[str, Any]) -> None:
    """Print the JSON document."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def create_error_document(command: str, message: str, *, exit_code: int, warnings: Sequence[str]) -> dict[str, Any]:
    """Create the JSON document of a failed command."""
    result = CommandResult(command, status="error", warnings=warnings)
    return {**result.to_json(), "schema_version": SCHEMA_VERSION, "error": message, "exit_code": exit_code}


def print_error(message: str) -> None:
    """Print an error in one line."""
    create_console(stderr=True).print(Text.assemble(("error: ", "bold red"), printable(redact(message))))


def _to_rich_table(table: Table) -> RichTable:
    rich_table = RichTable(title=Text(printable(table.name)), title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(table.columns):
        is_numeric = any(isinstance(row[i], int | float) and not isinstance(row[i], bool) for row in table.rows)
        rich_table.add_column(Text(printable(name)), justify="right" if is_numeric else "left", overflow="fold")
    for row in table.rows:
        rich_table.add_row(*(Text(_format_cell(value)) for value in row))
    return rich_table


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value))


class ProgressBars:
    """Progress bars on a terminal."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=create_console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    def begin(self, stage: str) -> None:
        """Show a bar of unknown length for a stage."""
        if self._task is None:  # a nested stage reuses the bar of the outer one
            self._bars.start()
            self._task = self._bars.add_task(stage, total=None, figures="")

    def update(self, stage: str, done: int, total: int, figures: dict[str, float]) -> None:
        """Update the bar."""
        if self._task is not None:
            values = " ".join(f"{name} {value:.3g}" for name, value in figures.items())
            self._bars.update(
                self._task, description=stage, completed=done, total=total, figures=f"{done:,}/{total:,} {values}"
            )

    def end(self, stage: str, seconds: float) -> None:
        """Replace the bar by one line with the duration."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._bars.stop()
            self._task = None
        create_console(stderr=True).print(Text(f"{stage}: {seconds:.1f} s"))


class ProgressLines:
    """One line every 30 seconds, for logs and pipes."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def begin(self, stage: str) -> None:  # noqa: ARG002 - the line at the end names the stage
        """Start the timer."""
        self._last = time.monotonic()

    def update(self, stage: str, done: int, total: int, figures: dict[str, float]) -> None:
        """Print a line if the last one is at least 30 s old."""
        if time.monotonic() - self._last < _PROGRESS_SECONDS:
            return
        self._last = time.monotonic()
        values = "".join(f" {name} {value:.3g}" for name, value in figures.items())
        sys.stderr.write(f"{stage}: {done}/{total}{values}\n")
        sys.stderr.flush()

    def end(self, stage: str, seconds: float) -> None:
        """Print the duration of the stage."""
        sys.stderr.write(f"{stage}: {seconds:.1f} s\n")
        sys.stderr.flush()
