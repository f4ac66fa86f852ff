"""What every benchmark tells beside its figures: what it is doing, and on which machine.

In: nothing. Out: a line on stderr; the machine as JSON takes it.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from datetime import UTC, datetime

from recsys import __version__


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def machine() -> dict[str, object]:
    return {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "recsys": __version__,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
