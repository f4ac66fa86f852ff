"""Sets of files that belong together, with their sha256 in one manifest that is replaced last.

In: functions that write one file each, and metadata. Out: all of the new files or all of the old ones, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from recsys.artifacts import atomic
from recsys.errors import ModelFolderError
from recsys.execution.failpoints import failpoint

T = TypeVar("T")
Facts = dict[str, Any]


def write_file_set(
    folder: Path, name: str, *, parts: Mapping[str, Callable[[Path], None]], metadata: Mapping[str, Any]
) -> None:
    """Write the files under names that contain their sha256, then the manifest; delete unused files.

    The manifest is `<name>.json`. A crash at any moment leaves the old manifest with its old files, or the new one with
    the new files. A process that still reads an old file keeps it open after its name is removed.

    Args:
        folder: target folder; created if missing.
        name: name of the set; several sets may share a folder.
        parts: file name such as `vectors.npy` -> a function that writes the file to a given path.
        metadata: further content of the manifest; plain JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.remove_stale_temp_files(folder, f".{name}-")
    try:
        _write_files(folder, name, parts, metadata)
    finally:
        _remove_unused_files(folder, name)


def _write_files(
    folder: Path, name: str, parts: Mapping[str, Callable[[Path], None]], metadata: Mapping[str, Any]
) -> None:
    prefix = f".{name}-{os.getpid()}-"
    manifest = folder / f"{prefix}manifest.tmp"
    manifest.touch()  # marks the new parts as in use for other processes, although no manifest names them yet
    files = {}
    for part, write in parts.items():
        temp_file = folder / f"{prefix}{part}.tmp"
        write(temp_file)
        atomic.fsync_path(temp_file)
        digest = file_sha256(temp_file)
        stem, dot, ending = part.partition(".")
        final = folder / f"{name}-{stem}-{digest[:16]}{dot}{ending}"
        files[part] = {"file": final.name, "sha256": digest, "bytes": temp_file.stat().st_size}
        failpoint("sealed.part.rename.before")
        temp_file.replace(final)
        failpoint("sealed.part.rename.after")
    manifest.write_text(
        json.dumps({"facts": dict(metadata), "files": files}, indent=1, sort_keys=True), encoding="utf-8"
    )
    atomic.fsync_path(manifest)
    failpoint("sealed.manifest.rename.before")
    manifest.replace(folder / f"{name}.json")
    failpoint("sealed.manifest.rename.after")
    atomic.fsync_path(folder)


def read_file_set(folder: Path, name: str, read: Callable[[Facts, dict[str, Path]], T]) -> T:
    """Verify every file against the manifest, then return `read(metadata, {part: path})`.

    Raises:
        FileNotFoundError: there is no manifest: the set was never written.
        ModelFolderError: a file is missing or was altered.
    """
    manifest = folder / f"{name}.json"
    while True:
        text = manifest.read_text(encoding="utf-8")
        try:
            content = json.loads(text)
            metadata: Facts = content["facts"]
            entries = {
                str(part): (str(entry["file"]), str(entry["sha256"])) for part, entry in content["files"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFolderError(f"{manifest} is not a manifest ({error}); delete it and build it again") from error
        try:
            return read(
                metadata, {part: _verify_part(folder, file, digest) for part, (file, digest) in entries.items()}
            )
        except FileNotFoundError as error:
            if manifest.read_text(encoding="utf-8") != text:
                continue  # a writer has replaced the files in the meantime: read the new ones
            raise ModelFolderError(f"{error.filename} is named in {manifest} but missing; build it again") from error


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_file(path: Path, *, sha256: str, size: int | None = None, content: bytes | None = None, advice: str) -> None:
    """Verify a file against the sha256, and the size if given, of its manifest.

    Args:
        path: the file.
        sha256: expected sha256, hexadecimal.
        size: expected size in bytes; None checks the sha256 only.
        content: bytes of the file if they were already read; None hashes the file on disk.
        advice: what to do about an altered file, for the message.

    Raises:
        FileNotFoundError: the file is missing.
        ModelFolderError: the file was altered.
    """
    actual_size = path.stat().st_size if content is None else len(content)
    if size is None or size == actual_size:
        digest = file_sha256(path) if content is None else hashlib.sha256(content).hexdigest()
        if digest == sha256:
            return
    raise ModelFolderError(f"{path}: altered since it was written; {advice}")


def _verify_part(folder: Path, file: str, digest: str) -> Path:
    if Path(file).name != file:
        raise ModelFolderError(f"{folder}: a manifest may only name files beside it, not {file!r}")
    path = folder / file
    verify_file(path, sha256=digest, advice="build it again")
    return path


def _remove_unused_files(folder: Path, name: str) -> None:
    """Remove files that no manifest names: those of the previous set and of writers that died."""
    part_name = re.compile(rf"{re.escape(name)}-[^-]+-[0-9a-f]{{16}}(\..*)?")
    candidates = [path for path in folder.iterdir() if part_name.fullmatch(path.name)]
    if atomic.remove_stale_temp_files(folder, f".{name}-"):  # otherwise the other writer removes them
        in_use = _named_files(folder / f"{name}.json")
        for path in candidates:
            if path.name not in in_use:
                path.unlink(missing_ok=True)


def _named_files(manifest: Path) -> set[str]:
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))["files"].values()
        return {name for name in (str(entry["file"]) for entry in entries) if Path(name).name == name}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()  # missing or damaged: there is nothing to remove
