"""Folders and zips of image files, listed once and read by name, so that no name can lead outside.

In: a path. Out: the paths of names, and the bytes of files.
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


class _FileSource(Protocol):
    """A folder or a zip."""

    @property
    def names(self) -> list[str]:
        """Relative paths, with `/`."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Read at most limit + 1 bytes of a file."""
        ...

    def close(self) -> None:
        """Close open files."""
        ...


@runtime_checkable
class _Refusing(Protocol):
    refused: dict[str, str]


class _Folder:
    """Files below a folder; links that lead outside and special files are listed as refused."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self.names: list[str] = []
        self.refused: dict[str, str] = {}
        for folder, subfolders, files in os.walk(self._root, followlinks=False):
            subfolders.sort()
            for file in sorted(files):
                path = Path(folder, file)
                name = path.relative_to(self._root).as_posix()
                code = self._refusal_code(path)
                if code:
                    self.refused[name] = code
                else:
                    self.names.append(name)

    def _refusal_code(self, path: Path) -> str | None:
        try:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                if not path.resolve().is_relative_to(self._root):
                    return "image_outside_folder"
                mode = path.stat().st_mode
        except (OSError, RuntimeError):  # a broken or circular link
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
            raise UsageError(f"{path} is not a readable zip ({error}); give a folder or a zip of images") from error
        self.names = [member.filename for member in self._zip.infolist() if not member.is_dir()]

    def read(self, name: str, limit: int) -> bytes:
        try:
            with self._zip.open(name) as file:  # at most the limit, whatever size the header claims
                return file.read(limit + 1)
        except EOFError as error:
            raise ImageError("image_truncated") from error
        except Exception as error:  # a damaged member raises zlib, CRC, encryption and other errors
            raise ImageError("image_broken") from error

    def close(self) -> None:
        self._zip.close()


class ImageArchive:
    """Image files by relative path, or by file name alone where it is unique.

    Args:
        path: a folder or a .zip.

    Raises:
        UsageError: the path does not exist, or is neither of them.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise UsageError(f"no such folder or zip of images: {path}")
        self.path = path
        self._source: _FileSource = _Folder(path) if path.is_dir() else _Zip(path)
        self._refused = self._source.refused if isinstance(self._source, _Refusing) else {}
        self._paths = set(self._source.names)
        self._by_file_name: dict[str, str | None] = {}
        for name in (*self._source.names, *self._refused):
            file_name = PurePosixPath(name).name
            self._by_file_name[file_name] = None if file_name in self._by_file_name else name

    def find(self, name: str) -> str:
        """Return the relative path for a name.

        Raises:
            ImageError: image_missing, image_outside_folder, image_remote, image_not_a_file.
        """
        lowered = name.strip().lower()
        if lowered.startswith(_REMOTE):
            raise ImageError("image_remote")
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or lowered[1:2] == ":" or "\x00" in name:
            raise ImageError("image_outside_folder")
        if name in self._paths:
            return name
        match = (
            str(path) if str(path) in self._paths or str(path) in self._refused else self._by_file_name.get(path.name)
        )
        if match is None:
            raise ImageError("image_missing")
        if match in self._refused:
            raise ImageError(self._refused[match])
        return match

    def stems(self) -> dict[str, str]:
        """Return image files by name without suffix (`0108` to `01/0108.jpg`); of equal names the first."""
        stems: dict[str, str] = {}
        for name in self._source.names:
            path = PurePosixPath(name)
            if path.suffix.lower() in SUFFIXES:
                stems.setdefault(path.stem, name)
        return stems

    def read(self, name: str, limit: int) -> bytes:
        """Read the file of a path that `find` returned, at most `limit` + 1 bytes.

        Raises:
            ImageError: the file cannot be read.
        """
        return self._source.read(name, limit)

    def close(self) -> None:
        """Close open files."""
        self._source.close()
