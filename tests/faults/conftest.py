"""What the fault tests share: processes that start quickly, the table of what was run, and stores to break.

In: nothing. Out: fixtures `processes`, `tally`; a table at the end of pytest.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext

import pytest

from tests.faults.tally import TALLY, Tally


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes that start with the libraries imported, but nothing of recsys: a fault is armed by its environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.heavy"])
    return context


@pytest.fixture(scope="session")
def tally() -> Iterator[Tally]:
    """`with tally("kills, SQLite"): ...` around each run."""
    yield TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of `make faults`."""
    if TALLY.lines:
        terminalreporter.section("faults")
        for line in TALLY.table():
            terminalreporter.write_line(line)
