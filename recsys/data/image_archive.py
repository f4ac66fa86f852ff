"""A folder or a zip of picture files, listed once and read by name, so that no name can lead out of it.

In: a path. Out: names that were found, and their bytes.
"""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final, Protocol, runtime_checkable

from recsys.data.image_decoding import ImageError
from recsys.errors import UsageError

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp"})
_REMOTE: Final = ("http://", "https://", "ftp://", "//", "data:", "s3://", "gs://")


class _Shelf(Protocol):
    """What folder and zip have in common."""

    @property
    def names(self) -> list[str]:
        """Paths inside, with `/`."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """At most limit + 1 bytes of a file."""
        ...

    def close(self) -> None:
        """Let go of open files."""
        ...


@runtime_checkable
class _Refusing(Protocol):
    refused: dict[str, str]


class _Folder:
    """Files below a folder. Links that lead out of it and things that are no files are listed as refused."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self.names: list[str] = []
        self.refused: dict[str, str] = {}
        for folder, subfolders, files in os.walk(self._root, followlinks=False):
            subfolders.sort()
            for file in sorted(files):
                path = Path(folder, file)
                name = path.relative_to(self._root).as_posix()
                code = self._judge(path)
                if code:
                    self.refused[name] = code
                else:
                    self.names.append(name)

    def _judge(self, path: Path) -> str | None:
        try:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                if not path.resolve().is_relative_to(self._root):
                    return "image_outside_folder"
                mode = path.stat().st_mode
        except (OSError, RuntimeError):  # a link to nowhere or to itself
            return "image_not_a_file"
        return None if stat.S_ISREG(mode) else "image_not_a_file"

    def read(self, name: str, limit: int) -> bytes:
        try:
            with (self._root / name).open("rb") as file:
                return file.read(limit + 1)
        except OSError as error:
            raise ImageError("image_not_a_file") from error

    def close(self) -> None:
        return


class _Zip:
    """Members of a zip; nothing is unpacked to disk."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UsageError(f"{path} is not a readable zip ({error}); give a folder or a zip of pictures") from error
        self.names = [each.filename for each in self._zip.infolist() if not each.is_dir()]

    def read(self, name: str, limit: int) -> bytes:
        try:
            with self._zip.open(name) as file:  # never more than the limit, whatever size the zip claims
                return file.read(limit + 1)
        except EOFError as error:
            raise ImageError("image_truncated") from error
        except Exception as error:  # a damaged member raises zlib, CRC, encryption and other errors
            raise ImageError("image_broken") from error

    def close(self) -> None:
        self._zip.close()


class ImageArchive:
    """Pictures by name: the path inside, or the file name alone where it is the only one of its kind.

    Args:
        path: a folder or a .zip.

    Raises:
        UsageError: there is no such path, or it is neither.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise UsageError(f"no such folder or zip of pictures: {path}")
        self.path = path
        self._shelf: _Shelf = _Folder(path) if path.is_dir() else _Zip(path)
        self._refused = self._shelf.refused if isinstance(self._shelf, _Refusing) else {}
        self._whole = set(self._shelf.names)
        self._short: dict[str, str | None] = {}
        for name in (*self._shelf.names, *self._refused):
            short = PurePosixPath(name).name
            self._short[short] = None if short in self._short else name

    def find(self, name: str) -> str:
        """Return the path inside of a name.

        Raises:
            PictureError: image_missing, image_outside_folder, image_remote, image_not_a_file.
        """
        lowered = name.strip().lower()
        if lowered.startswith(_REMOTE):
            raise ImageError("image_remote")
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or lowered[1:2] == ":" or "\x00" in name:
            raise ImageError("image_outside_folder")
        if name in self._whole:
            return name
        found = str(path) if str(path) in self._whole or str(path) in self._refused else self._short.get(path.name)
        if found is None:
            raise ImageError("image_missing")
        if found in self._refused:
            raise ImageError(self._refused[found])
        return found

    def stems(self) -> dict[str, str]:
        """Picture files by name without suffix (`0108` to `01/0108.jpg`); of equals the first counts."""
        out: dict[str, str] = {}
        for name in self._shelf.names:
            path = PurePosixPath(name)
            if path.suffix.lower() in SUFFIXES:
                out.setdefault(path.stem, name)
        return out

    def read(self, name: str, limit: int) -> bytes:
        """Bytes of a picture that `find` found, at most `limit` + 1.

        Raises:
            PictureError: it cannot be read.
        """
        return self._shelf.read(name, limit)

    def close(self) -> None:
        """Let go of open files."""
        self._shelf.close()
