"""Detect torchrun and read the rank of this process from the environment.

In: the environment variables that torchrun sets. Out: numbers; torch is not imported.
"""

from __future__ import annotations

import os


def is_torchrun() -> bool:
    """Return whether torchrun started this process (other launchers set some of the same variables)."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def world_size() -> int:
    """Return the number of processes that run this command."""
    return int(os.environ["WORLD_SIZE"]) if is_torchrun() else 1


def rank() -> int:
    """Return the rank of this process; rank 0 leads."""
    return int(os.environ["RANK"]) if is_torchrun() else 0


def local_rank() -> int:
    """Return the rank of this process among those on this machine."""
    return int(os.environ["LOCAL_RANK"]) if is_torchrun() else 0


def is_helper() -> bool:
    """Return whether this process only helps rank 0: no files, no lease, no output."""
    return rank() > 0
