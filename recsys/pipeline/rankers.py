"""Ranker folders: `<models>/ranker/<version>/` with the blend and its manifest, `CURRENT` last.

In: a `Blend`. Out: its folder; read back only when the file is the one that was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from recsys import __version__
from recsys.errors import ModelFolderError
from recsys.recommend.rank import Blend

_BLEND, _MANIFEST = "blend.json", "manifest.json"


def save(blend: Blend, folder: Path, *, encoder: str, data_fingerprint: str, seed: int) -> Path:
    """Write a blend to `folder/<version>` and point `folder/CURRENT` at it.

    Args:
        blend: what to write.
        folder: `artifacts/models/ranker`.
        encoder: version of the encoder whose scores it was fitted on.
        data_fingerprint: of the data it was fitted on.
        seed: it was fitted with.

    Returns:
        The version's folder; the version is the first 12 hexadecimal digits of the blend's sha256.
    """
    held = blend.to_json().encode()
    digest = hashlib.sha256(held).hexdigest()
    manifest = {
        "version": digest[:12],
        "encoder": encoder,
        "data_fingerprint": data_fingerprint,
        "seed": seed,
        "recsys": __version__,
        "files": {_BLEND: {"sha256": digest, "size": len(held)}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / digest[:12]
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    try:
        _write(part / _BLEND, held)
        _write(part / _MANIFEST, json.dumps(manifest, indent=1).encode())
        part.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)  # the same blend again, or a damaged folder of its name
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    pointer = folder / f".CURRENT-{os.getpid()}"
    _write(pointer, digest[:12].encode() + b"\n")
    pointer.replace(folder / "CURRENT")
    return target


def load(folder: Path) -> Blend:
    """Read a version's folder.

    Raises:
        ModelFolderError: a file is missing or altered, or the blend is of another version.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        held = (folder / _BLEND).read_bytes()
        expected = manifest["files"][_BLEND]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f"{folder}: not a complete ranker folder ({error}); run 'recsys train ranker'"
        ) from error
    if hashlib.sha256(held).hexdigest() != expected:
        raise ModelFolderError(f"{folder / _BLEND}: altered since it was written; run 'recsys train ranker'")
    return Blend.from_json(held.decode())


def _write(path: Path, held: bytes) -> None:
    with path.open("wb") as file:
        file.write(held)
        file.flush()
        os.fsync(file.fileno())
