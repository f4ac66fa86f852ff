"""Folders and zips of image files, listed once and read by name, so that no name can lead outside.

In: a path. Out: the paths of names, and the bytes of files.
"""

from __future__ import annotations

import os
import stat
import unicodedata
import zipfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final, Protocol, runtime_checkable
from urllib.parse import unquote

from recsys.data.image_decoding import ImageError
from recsys.errors import UsageError

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".gif", ".webp"})
"""Endings of image files; what a file holds is decided by its content."""
_REMOTE: Final = ("http://", "https://", "ftp://", "//", "data:", "s3://", "gs://")


def is_remote(name: str) -> bool:
    """Return whether a name is a URL."""
    return name.strip().lower().startswith(_REMOTE)


def fold_name(name: str) -> str:
    """Return a name without the differences of upper and lower case and of composed and decomposed accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


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
        self.names = self._source.names
        self.refused = self._source.refused if isinstance(self._source, _Refusing) else {}
        self._paths = frozenset((*self.names, *self.refused))
        self._by_file_name = _only_values((PurePosixPath(name).name, name) for name in self._paths)

    @cached_property
    def _by_folded_path(self) -> dict[str, str | None]:
        return _only_values((fold_name(name), name) for name in self._paths)

    @cached_property
    def _by_folded_file_name(self) -> dict[str, str | None]:
        return _only_values((fold_name(PurePosixPath(name).name), name) for name in self._paths)

    @cached_property
    def _by_stem(self) -> dict[str, str | None]:
        paths = [PurePosixPath(name) for name in self._paths]
        return _only_values((path.stem, str(path)) for path in paths if path.suffix.lower() in SUFFIXES)

    def find(self, name: str, *, whole_path: bool = False) -> str:
        """Return the relative path for a name.

        In this order: the path, its last folders and the file name, the file name alone if it is unique; the same with
        `%20` and the like decoded, and regardless of upper and lower case; for a name without suffix the only image
        file that has this name with one.

        Args:
            name: a path or a file name.
            whole_path: do not accept a file of the same name in another folder.

        Raises:
            ImageError: image_missing, image_outside_folder, image_remote, image_not_a_file.
        """
        if is_remote(name):
            raise ImageError("image_remote")
        match = self._find(name, whole_path=whole_path)
        if match is None and "%" in name:
            match = self._find(unquote(name), whole_path=whole_path)
        if match is None:
            raise ImageError("image_missing")
        if match in self.refused:
            raise ImageError(self.refused[match])
        return match

    def _find(self, name: str, *, whole_path: bool) -> str | None:
        path = PurePosixPath(name.strip().replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or name.strip()[1:2] == ":" or "\x00" in name:
            raise ImageError("image_outside_folder")
        if name in self._paths:
            return name
        folders = range(max(1, len(path.parts) - 1))
        tails = ["/".join(path.parts[start:]) for start in folders]
        exact = next((tail for tail in tails if tail in self._paths), None)
        if exact or whole_path:
            return exact
        if path.name in self._by_file_name:
            return self._by_file_name[path.name]
        folded = next((found for tail in tails if (found := self._by_folded_path.get(fold_name(tail)))), None)
        folded = folded or self._by_folded_file_name.get(fold_name(path.name))
        return folded or (None if path.suffix.lower() in SUFFIXES else self._by_stem.get(path.name))

    def read(self, name: str, limit: int) -> bytes:
        """Read the file of a path that `find` returned, at most `limit` + 1 bytes.

        Raises:
            ImageError: the file cannot be read.
        """
        return self._source.read(name, limit)

    def close(self) -> None:
        """Close open files."""
        self._source.close()


def _only_values(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    """Return a dictionary of the pairs; None for a key with several values."""
    values: dict[str, str | None] = {}
    for key, value in pairs:
        values[key] = None if key in values else value
    return values
