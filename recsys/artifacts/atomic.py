"""Write files durably, and remove temporary files of dead processes.

In: paths and bytes. Out: files on disk, synced before a name points at them. The names of temporary files contain the
id of the process that writes them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from recsys.execution.failpoints import failpoint


def fsync_file(file_descriptor: int) -> None:
    """Wait until all data written to an open file is on disk."""
    failpoint("disk.fsync.before")
    os.fsync(file_descriptor)
    failpoint("disk.fsync.after")


def write_durable(path: Path, content: bytes) -> None:
    """Write a file and sync it to disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        fsync_file(file.fileno())


def fsync_path(path: Path) -> None:
    """Sync a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fsync_file(handle)
    finally:
        os.close(handle)


def remove_stale_temp_files(folder: Path, prefix: str) -> bool:
    """Remove temporary files of dead processes: names `<prefix><pid>` or `<prefix><pid>-...`.

    Folders are removed too, and so are the files of this process: call it before they are written, or when they are no
    longer needed.

    Returns:
        Whether no other process has temporary files there.
    """
    no_other_writer = True
    for path in folder.glob(f"{prefix}*"):
        pid = path.name.removeprefix(prefix).split("-")[0]
        if _is_other_live_process(pid):
            no_other_writer = False
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return no_other_writer


def _is_other_live_process(pid: str) -> bool:
    """Return whether another process with this id is alive."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # alive, but owned by another user
        return True
    return int(pid) != os.getpid()
