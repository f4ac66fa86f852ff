"""Whether this process is one of several that torchrun started for the same command, and which.

In: the environment torchrun sets. Out: numbers; nothing heavy is loaded to find them.
"""

from __future__ import annotations

import os


def launched() -> bool:
    """Did torchrun start this process (other launchers set some of the same variables)."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def size() -> int:
    """How many processes do the same command."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def rank() -> int:
    """Which of them this one is; number 0 leads."""
    return int(os.environ["RANK"]) if launched() else 0


def place() -> int:
    """Which of those on this machine this one is."""
    return int(os.environ["LOCAL_RANK"]) if launched() else 0


def follows() -> bool:
    """Is this a process that only helps number 0: it writes no file, takes no lease and prints no result."""
    return rank() > 0
