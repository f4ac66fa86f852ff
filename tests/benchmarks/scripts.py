"""Benchmark scripts run in this process, so that a test does not pay for starting an interpreter.

In: the name of a script under benchmarks/ and its options. Out: exit code, stdout and stderr as of a finished process.
"""

from __future__ import annotations

import contextlib
import io
import logging
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run_script(name: str, *options: object) -> subprocess.CompletedProcess[str]:
    """Run `python benchmarks/<name> <options>` in this process."""
    arguments = [str(BENCHMARKS / name), *map(str, options)]
    out, err = io.StringIO(), io.StringIO()
    log = logging.getLogger("recsys")
    handlers, level = log.handlers[:], log.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        patch.syspath_prepend(BENCHMARKS)
        patch.chdir(BENCHMARKS.parent)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(arguments[0], run_name="__main__")
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
                if isinstance(stop.code, str):
                    print(stop.code, file=err)
            finally:
                log.handlers[:], log.level = handlers, level
    return subprocess.CompletedProcess(arguments, int(code or 0), out.getvalue(), err.getvalue())
