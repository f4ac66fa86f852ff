"""What the fault tests did: how often each was run and how often a promise was broken.

In: `with tally("kills, SQLite"): ...` around each run. Out: a table at the end of pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Line:
    """One row of the table."""

    runs: int = 0
    violations: int = 0
    notes: list[str] = field(default_factory=list)


class Tally:
    """Counts runs and violations by name."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}

    @contextmanager
    def __call__(self, name: str, *, runs: int = 1, what: str = "") -> Iterator[Line]:
        """One run, or several at once; whatever goes wrong inside counts as a violation and goes on upwards.

        `what` is told with it.
        """
        line = self.lines.setdefault(name, Line())
        line.runs += runs
        try:
            yield line
        except BaseException as error:
            line.violations += 1
            error.add_note(f"{name} {what}, run {line.runs}")
            raise

    def table(self) -> list[str]:
        """The table as lines of text."""
        rows = [("test", "runs", "violations", "")]
        rows += [
            (name, f"{line.runs:,}", str(line.violations), "; ".join(line.notes)) for name, line in self.lines.items()
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return [
            f"{name:<{widths[0]}}  {runs:>{widths[1]}}  {wrong:>{widths[2]}}  {note}".rstrip()
            for name, runs, wrong, note in rows
        ]


TALLY = Tally()
