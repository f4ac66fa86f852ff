"""Model folders as they lie on disk: which one is in use, whether it is whole, and what it says of its model.

In: a folder, or the files of a new version. Out: its checked files; a version written whole and
pointed at. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.artifacts import atomic as durable
from recsys.errors import ModelFolderError
from recsys.execution.failpoints import failpoint

if TYPE_CHECKING:
    pass

MANIFEST = "manifest.json"
_POINTER, _PART, _DRAFT = "CURRENT", ".part-", ".CURRENT-"
_TOLD = frozenset({MANIFEST, "metrics.json", "README.md"})
"""Files that tell of a model and are not part of it."""


def current_version(models: Path, name: str) -> Path:
    """Folder of the current version of model `name` under `models`.

    Raises:
        ModelFolderError: there is none.
    """
    pointer = models / name / _POINTER
    if not pointer.is_file():
        raise ModelFolderError(f"{pointer.parent}: there is no trained model yet; run `recsys train`")
    version = pointer.read_text(encoding="utf-8").strip()
    folder = models / name / version
    if not version or Path(version).name != version or not folder.is_dir():
        raise ModelFolderError(f"{pointer}: names version '{version}', which is not there; run `recsys train`")
    return folder


def read_verified(folder: Path, needed: Collection[str] = ()) -> Mapping[str, bytes]:
    """All files of a model folder, each of the size and sha256 the manifest says.

    Args:
        folder: of one version.
        needed: files without which it is no model.

    Raises:
        ModelFolderError: a file is missing or altered.
    """
    path = folder / MANIFEST
    try:
        named = {str(name): held for name, held in read_manifest(folder)["files"].items()}
        if set(needed) - named.keys() or any(Path(name).name != name for name in named):
            raise ModelFolderError(f"{path}: does not name the files of a model; run `recsys train`")
        files = {name: (folder / name).read_bytes() for name in named}
        for name, held in files.items():
            if len(held) != named[name]["size"] or hashlib.sha256(held).hexdigest() != named[name]["sha256"]:
                raise ModelFolderError(
                    f"{folder / name}: altered since it was written; run `recsys train` or restore the folder"
                )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelFolderError(f"{folder}: not a complete model folder ({error}); run `recsys train`") from error
    return files


def write_version(folder: Path, version: str, files: Mapping[str, bytes]) -> Path:
    """Write all files of a version, its manifest among them, then point at it; return the version's folder.

    A crash at any moment leaves the pointer at a whole folder: at the one before, or at this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    durable.remove_stale_temp_files(folder, _PART)
    durable.remove_stale_temp_files(folder, _DRAFT)
    target, pointer = folder / version, folder / f"{_DRAFT}{os.getpid()}"
    part = Path(tempfile.mkdtemp(prefix=f"{_PART}{os.getpid()}-", dir=folder))
    try:
        durable.write_durable(pointer, version.encode() + b"\n")
        if not _holds(target, files):
            _move_in(part, target, files)
        failpoint("model.current.rename.before")
        pointer.replace(folder / _POINTER)
        failpoint("model.current.rename.after")
        durable.fsync_path(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        pointer.unlink(missing_ok=True)
    return target


def _move_in(part: Path, target: Path, files: Mapping[str, bytes]) -> None:
    for name, held in files.items():
        durable.write_durable(part / name, held)
    part.chmod(0o755)
    durable.fsync_path(part)
    if target.exists():
        target.rename(part / "old")  # a damaged folder of that name must not survive
    failpoint("model.version.rename.before")
    part.rename(target)
    failpoint("model.version.rename.after")
    shutil.rmtree(target / "old", ignore_errors=True)
    durable.fsync_path(target.parent)


def _holds(target: Path, files: Mapping[str, bytes]) -> bool:
    """Is this very model there and whole: then it stays, because it may be in use and no folder is replaced at once."""
    try:
        there = read_verified(target, files.keys() - {MANIFEST})
    except ModelFolderError:
        return False
    return all(there[name] == held for name, held in files.items() if name not in _TOLD)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model folder, unchecked."""
    held: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    return held
