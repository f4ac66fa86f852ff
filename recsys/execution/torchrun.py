"""Whether this process is one of several that torchrun started for the same command, and which.

In: the environment torchrun sets. Out: numbers; nothing heavy is loaded to find them.
"""

from __future__ import annotations

import os


def is_torchrun() -> bool:
    """Did torchrun start this process (other launchers set some of the same variables)."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def world_size() -> int:
    """How many processes do the same command."""
    return int(os.environ["WORLD_SIZE"]) if is_torchrun() else 1


def rank() -> int:
    """Which of them this one is; number 0 leads."""
    return int(os.environ["RANK"]) if is_torchrun() else 0


def local_rank() -> int:
    """Which of those on this machine this one is."""
    return int(os.environ["LOCAL_RANK"]) if is_torchrun() else 0


def is_helper() -> bool:
    """Is this a process that only helps number 0: it writes no file, takes no lease and prints no result."""
    return rank() > 0
