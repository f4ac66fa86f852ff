"""What every benchmark tells beside its figures: what it is doing, and on which machine.

In: nothing. Out: a line on stderr; the machine as JSON takes it.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from recsys._version import __version__
from recsys.errors import RecsysError


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def answered(name: str, measured: Callable[[argparse.Namespace, Path], int], asked: argparse.Namespace) -> int:
    """Measure in the folder --work or in one that is thrown away; the exit code, our errors told in one line."""
    with tempfile.TemporaryDirectory() as temporary:
        try:
            return measured(asked, asked.work or Path(temporary))
        except RecsysError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return error.exit_code


def machine() -> dict[str, object]:
    return {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "recsys": __version__,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
