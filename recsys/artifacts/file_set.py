"""Files of one folder that belong together, with their sha256 in one manifest that is replaced last.

In: functions that write a file each, and facts about them. Out: all of the new files or all of the old ones, no mix.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from recsys.artifacts import atomic as durable
from recsys.errors import ModelFolderError
from recsys.execution.failpoints import failpoint

T = TypeVar("T")
Facts = dict[str, Any]


def write_file_set(
    folder: Path, name: str, *, parts: Mapping[str, Callable[[Path], None]], metadata: Mapping[str, Any]
) -> None:
    """Write the parts under names that carry their sha256, then the manifest `<name>.json`, then drop the old parts.

    A crash at any moment leaves the old manifest with its old files, or the new one with the new files. A process
    that still reads an old file keeps it open after the name is gone.

    Args:
        folder: where; made if missing.
        name: what the files are together; several names may share a folder.
        parts: file name such as `vectors.npy` -> a function that writes it to the path it is given.
        facts: what else the manifest says; plain JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    durable.remove_stale_temp_files(folder, f".{name}-")
    try:
        _write(folder, name, parts, metadata)
    finally:
        _tidy(folder, name)


def _write(folder: Path, name: str, parts: Mapping[str, Callable[[Path], None]], metadata: Mapping[str, Any]) -> None:
    own = f".{name}-{os.getpid()}-"
    manifest = folder / f"{own}manifest.tmp"
    manifest.touch()  # tells others that the new parts are not waste, although no manifest names them yet
    files = {}
    for part, write in parts.items():
        draft = folder / f"{own}{part}.tmp"
        write(draft)
        durable.fsync_path(draft)
        digest = sha256(draft)
        stem, dot, ending = part.partition(".")
        final = folder / f"{name}-{stem}-{digest[:16]}{dot}{ending}"
        files[part] = {"file": final.name, "sha256": digest, "bytes": draft.stat().st_size}
        failpoint("sealed.part.rename.before")
        draft.replace(final)
        failpoint("sealed.part.rename.after")
    manifest.write_text(
        json.dumps({"facts": dict(metadata), "files": files}, indent=1, sort_keys=True), encoding="utf-8"
    )
    durable.fsync_path(manifest)
    failpoint("sealed.manifest.rename.before")
    manifest.replace(folder / f"{name}.json")
    failpoint("sealed.manifest.rename.after")
    durable.fsync_path(folder)


def read_file_set(folder: Path, name: str, read: Callable[[Facts, dict[str, Path]], T]) -> T:
    """Check every file against the manifest, then `read(facts, {part: path})`.

    Raises:
        FileNotFoundError: there is no manifest: nothing was ever written.
        ModelFolderError: a file is missing, or is not the one that was written.
    """
    manifest = folder / f"{name}.json"
    while True:
        text = manifest.read_text(encoding="utf-8")
        try:
            content = json.loads(text)
            facts: Facts = content["facts"]
            entries = {
                str(part): (str(entry["file"]), str(entry["sha256"])) for part, entry in content["files"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFolderError(f"{manifest} is not a manifest ({error}); delete it and build it again") from error
        try:
            return read(facts, {part: _checked(folder, file, digest) for part, (file, digest) in entries.items()})
        except FileNotFoundError as error:
            if manifest.read_text(encoding="utf-8") != text:
                continue  # a writer replaced the files between our two looks: read the new ones
            raise ModelFolderError(f"{error.filename} is named in {manifest} but missing; build it again") from error


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(folder: Path, file: str, digest: str) -> Path:
    if Path(file).name != file:
        raise ModelFolderError(f"{folder}: a manifest may only name files beside it, not {file!r}")
    if sha256(folder / file) != digest:
        raise ModelFolderError(f"{folder / file} was altered since it was written; build it again")
    return folder / file


def _tidy(folder: Path, name: str) -> None:
    """Remove parts that no manifest names: those of the one before, and those of a writer that died over them."""
    part = re.compile(rf"{re.escape(name)}-[^-]+-[0-9a-f]{{16}}(\..*)?")
    held = [path for path in folder.iterdir() if part.fullmatch(path.name)]
    if durable.remove_stale_temp_files(folder, f".{name}-"):  # else the other writer will do it
        named = _files(folder / f"{name}.json")
        for path in held:
            if path.name not in named:
                path.unlink(missing_ok=True)


def _files(manifest: Path) -> set[str]:
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))["files"].values()
        return {name for name in (str(entry["file"]) for entry in entries) if Path(name).name == name}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()  # none yet, or damaged: nothing to tidy up
