"""Files that survive a crash: on disk before a name points at them, and no drafts of dead processes left behind.

In: paths and bytes. Out: the same on disk. Drafts carry the number of the process that writes them in their name.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from recsys.execution.failpoints import failpoint


def fsync_file(handle: int) -> None:
    """Wait until all that was written to an open file is on disk."""
    failpoint("disk.fsync.before")
    os.fsync(handle)
    failpoint("disk.fsync.after")


def write_durable(path: Path, held: bytes) -> None:
    """Write a file and bring it to disk."""
    with path.open("wb") as file:
        file.write(held)
        file.flush()
        fsync_file(file.fileno())


def fsync_path(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fsync_file(handle)
    finally:
        os.close(handle)


def remove_stale_temp_files(folder: Path, prefix: str) -> bool:
    """Remove drafts, files or folders named `<prefix><process>` or `<prefix><process>-...`, whose writer is dead.

    Drafts of this process go too: call it before they are written, or after they are done with.

    Returns:
        Whether no other process has drafts there.
    """
    alone = True
    for draft in folder.glob(f"{prefix}*"):
        writer = draft.name.removeprefix(prefix).split("-")[0]
        if _writes(writer):
            alone = False
        elif draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink(missing_ok=True)
    return alone


def _writes(process: str) -> bool:
    """Does another process of this number live."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # somebody else's, and alive
        return True
    return int(process) != os.getpid()
