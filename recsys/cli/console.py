"""What the user sees: data on stdout, messages on stderr, one JSON document with `--json`.

In: a `CommandResult` or an error. Out: rich tables and lines, or JSON. Text from the shop's data is stripped of control
characters and never read as markup.
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
_LINE_SECONDS = 30.0


def console(*, stderr: bool = False) -> Console:
    """A console for one stream; rich itself respects NO_COLOR. A pipe has no width, so lines are kept long there."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False, soft_wrap=stderr)


def print_result(report: CommandResult, *, quiet: bool) -> None:
    """Print a report for people."""
    out, err = console(), console(stderr=True)
    for at, table in enumerate(report.tables):
        if table.rows or at == 0:
            out.print(_drawn(table.display or table))
    if quiet:
        return
    for warning in report.warnings:
        err.print(Text(f"warning: {printable(redact(warning))}", style="yellow"))
    flat = {name: value for name, value in report.counts.items() if not isinstance(value, dict)}
    if flat:
        err.print(Text("  ".join(f"{name} {_cell(value)}" for name, value in flat.items())))
    for name, path in report.artifacts.items():
        err.print(Text(f"{name}: {printable(str(path))}"))
    for note in report.notes:
        err.print(Text(printable(note)))


def show_json(document: dict[str, Any]) -> None:
    """Print the one JSON document."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def error_document(command: str, message: str, *, exit_code: int, warnings: Sequence[str]) -> dict[str, Any]:
    """The JSON document of a command that failed."""
    report = CommandResult(command, status="error", warnings=warnings)
    return {**report.to_json(), "schema_version": SCHEMA_VERSION, "error": message, "exit_code": exit_code}


def show_error(message: str) -> None:
    """Print the one line of an error."""
    console(stderr=True).print(Text.assemble(("error: ", "bold red"), printable(redact(message))))


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(title=Text(printable(table.name)), title_justify="left", box=None, pad_edge=False)
    for at, name in enumerate(table.columns):
        numeric = any(isinstance(row[at], int | float) and not isinstance(row[at], bool) for row in table.rows)
        drawn.add_column(Text(printable(name)), justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(_cell(value)) for value in row))
    return drawn


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value))


class ProgressBars:
    """Progress bars for a terminal."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    def begin(self, stage: str) -> None:
        """Show a bar of unknown length."""
        if self._task is None:  # a stage inside a stage keeps the outer bar
            self._bars.start()
            self._task = self._bars.add_task(stage, total=None, figures="")

    def update(self, stage: str, done: int, total: int, figures: dict[str, float]) -> None:
        """Move the bar."""
        if self._task is not None:
            named = " ".join(f"{name} {value:.3g}" for name, value in figures.items())
            self._bars.update(
                self._task, description=stage, completed=done, total=total, figures=f"{done:,}/{total:,} {named}"
            )

    def end(self, stage: str, seconds: float) -> None:
        """Take the bar away and leave one line."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._bars.stop()
            self._task = None
        console(stderr=True).print(Text(f"{stage}: {seconds:.1f} s"))


class ProgressLines:
    """One line per 30 seconds, for logs and pipes."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def begin(self, stage: str) -> None:  # noqa: ARG002 - the line at the end names the stage
        """Start the clock."""
        self._last = time.monotonic()

    def update(self, stage: str, done: int, total: int, figures: dict[str, float]) -> None:
        """Print when 30 s have gone by since the last line."""
        if time.monotonic() - self._last < _LINE_SECONDS:
            return
        self._last = time.monotonic()
        named = "".join(f" {name} {value:.3g}" for name, value in figures.items())
        sys.stderr.write(f"{stage}: {done}/{total}{named}\n")
        sys.stderr.flush()

    def end(self, stage: str, seconds: float) -> None:
        """Say what it took."""
        sys.stderr.write(f"{stage}: {seconds:.1f} s\n")
        sys.stderr.flush()
