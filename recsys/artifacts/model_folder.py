"""Model folders on disk: the current version, its verified files and its manifest.

In: a folder, or the files of a new version. Out: verified files; a version written completely and then pointed to.
torch is not imported.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from recsys.artifacts import atomic
from recsys.artifacts.file_set import verify_file
from recsys.errors import ModelFolderError
from recsys.execution.failpoints import failpoint

MANIFEST = "manifest.json"
_POINTER, _TEMP_FOLDER, _TEMP_POINTER = "CURRENT", ".part-", ".CURRENT-"
_DESCRIPTIVE_FILES = frozenset({MANIFEST, "metrics.json", "README.md"})
"""Files that describe a model and are not part of it."""


def current_version(models: Path, name: str) -> Path:
    """Return the folder of the current version of model `name` under `models`.

    Raises:
        ModelFolderError: there is no such version.
    """
    pointer = models / name / _POINTER
    if not pointer.is_file():
        raise ModelFolderError(f"{pointer.parent}: there is no trained model yet; run `recsys train`")
    version = pointer.read_text(encoding="utf-8").strip()
    folder = models / name / version
    if not version or Path(version).name != version or not folder.is_dir():
        raise ModelFolderError(f"{pointer}: version '{version}' does not exist; run `recsys train`")
    return folder


def read_verified_files(folder: Path, needed: Collection[str] = ()) -> Mapping[str, bytes]:
    """Read all files of a model folder and verify size and sha256 against the manifest.

    Args:
        folder: folder of one version.
        needed: files without which the folder is not a model.

    Raises:
        ModelFolderError: a file is missing or was altered.
    """
    path = folder / MANIFEST
    try:
        entries = {str(name): entry for name, entry in read_manifest(folder)["files"].items()}
        if set(needed) - entries.keys() or any(Path(name).name != name for name in entries):
            raise ModelFolderError(f"{path}: does not name the files of a model; run `recsys train`")
        files = {name: (folder / name).read_bytes() for name in entries}
        for name, content in files.items():
            verify_file(
                folder / name,
                sha256=entries[name]["sha256"],
                size=entries[name]["size"],
                content=content,
                advice="run `recsys train` or restore the folder",
            )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelFolderError(f"{folder}: not a complete model folder ({error}); run `recsys train`") from error
    return files


def write_version(folder: Path, version: str, files: Mapping[str, bytes]) -> Path:
    """Write all files of a version, including its manifest, then point to it; return the version's folder.

    A crash at any moment leaves the pointer at a complete folder: the previous one or this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.remove_stale_temp_files(folder, _TEMP_FOLDER)
    atomic.remove_stale_temp_files(folder, _TEMP_POINTER)
    target, temp_pointer = folder / version, folder / f"{_TEMP_POINTER}{os.getpid()}"
    temp_folder = Path(tempfile.mkdtemp(prefix=f"{_TEMP_FOLDER}{os.getpid()}-", dir=folder))
    try:
        atomic.write_durable(temp_pointer, version.encode() + b"\n")
        if not _is_identical(target, files):
            _replace_folder(temp_folder, target, files)
        failpoint("model.current.rename.before")
        temp_pointer.replace(folder / _POINTER)
        failpoint("model.current.rename.after")
        atomic.fsync_path(folder)
    finally:
        shutil.rmtree(temp_folder, ignore_errors=True)
        temp_pointer.unlink(missing_ok=True)
    return target


def _replace_folder(temp_folder: Path, target: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        atomic.write_durable(temp_folder / name, content)
    temp_folder.chmod(0o755)
    atomic.fsync_path(temp_folder)
    if target.exists():
        target.rename(temp_folder / "old")  # a damaged folder of that name must be removed
    failpoint("model.version.rename.before")
    temp_folder.rename(target)
    failpoint("model.version.rename.after")
    shutil.rmtree(target / "old", ignore_errors=True)
    atomic.fsync_path(target.parent)


def _is_identical(target: Path, files: Mapping[str, bytes]) -> bool:
    """Return whether this version already exists and is complete.

    It is not replaced then: it may be in use, and a folder cannot be replaced atomically.
    """
    try:
        existing = read_verified_files(target, files.keys() - {MANIFEST})
    except ModelFolderError:
        return False
    return all(existing[name] == content for name, content in files.items() if name not in _DESCRIPTIVE_FILES)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a model folder without verification."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    return manifest
