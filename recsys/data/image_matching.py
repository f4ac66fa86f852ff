"""Match products with image files: by the names in column `image`, else by the names of files and folders.

In: listed folders and zips, the image names of products, product ids. Out: one file for each product that has one,
the products whose named file cannot be used, and every other file with the reason why it is not used.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from recsys.data.image_archive import SUFFIXES, ImageArchive, fold_name, is_remote
from recsys.data.image_decoding import HEADER_BYTES, ImageError, is_image

NO_PRODUCT: Final = "no product of that name"
NOT_AN_IMAGE: Final = "not a JPEG, PNG, GIF or WebP"
NOT_FIRST: Final = "another file is used for the product"
NAMED_OTHERWISE: Final = "column image names another file for the product"
SEVERAL_PRODUCTS: Final = "several products have that name but for upper and lower case"
OUTSIDE: Final = "a link that leads outside the folder"
NOT_A_FILE: Final = "not a plain file"

_SEPARATORS: Final = re.compile(r"\s*[,|;]\s*")
_URL_SEPARATORS: Final = re.compile(r"\s*\|\s*|\s*[,;]\s*(?=[a-zA-Z][a-zA-Z0-9+.-]*://|//)")
_NUMBERED: Final = re.compile(r"(.+?) ?[_-] ?([0-9]{1,3})|(.+?) ?\(([0-9]{1,3})\)")
_SHORT_NUMBER: Final = re.compile(r"[0-9]{1,3}")
_EXACT, _OTHER_CASE, _OTHER_SUFFIX, _IN_NUMBERED, _IN_FOLDER = range(5)
"""How well a file name fits a product id, the best first."""


@dataclass(frozen=True)
class MatchedFile:
    """The file of a product: its name as given in column `image` or found, and where it is."""

    product: str
    name: str
    archive: ImageArchive
    path: str


@dataclass(frozen=True)
class ImageMatches:
    """Result of `match_images`.

    Attributes:
        files: at most one file of each product, in a fixed order.
        problems: product id, name in column `image` and reason code of products whose named file cannot be used.
        unused: every other file, with the reason.
    """

    files: list[MatchedFile] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)


def match_images(archives: Sequence[ImageArchive], names: Mapping[str, str], also: Collection[str]) -> ImageMatches:
    """Find the image file of each product.

    Args:
        archives: folders and zips; the first that has a named file is used.
        names: product id to content of column `image`: a file name, a URL, or several of them, of which the first
            that exists is used. For a URL that is its file name, or the file named like the product.
        also: products without such a name; they get the file named like their id.
    """
    matches = ImageMatches()
    by_id = _FilesByProduct(archives, {*names, *also})
    repeated = _repeated_file_names(names)
    for product, cell in sorted(names.items()):
        code = "image_missing"
        found = None
        for part in _split_names(cell):
            try:
                found = _find_named(archives, part, repeated)
                break
            except ImageError as error:
                code = error.code if code == "image_missing" else code
        if found is None and code == "image_remote":
            found = by_id.find(product)
        if found is None:
            matches.problems.append((product, cell, code))
        else:
            archive, path, name = found
            matches.files.append(MatchedFile(product, name, archive, path))
    for product in sorted(set(also) - set(names)):
        found = by_id.find(product)
        if found is not None:
            archive, path, name = found
            matches.files.append(MatchedFile(product, name, archive, path))
    used = {(id(file.archive), file.path) for file in matches.files}
    for archive in archives:
        for path in (*archive.names, *archive.refused):
            if (id(archive), path) not in used:
                shown = path if len(archives) == 1 else str(archive.path / path)
                matches.unused[shown] = by_id.why_unused(archive, path, names)
    return matches


_Found = tuple[ImageArchive, str, str]
"""Archive, path in it, and the name to report."""


def _split_names(cell: str) -> list[str]:
    """Return the whole cell and, if it holds several names, each of them."""
    parts = [part for part in (_URL_SEPARATORS if is_remote(cell) else _SEPARATORS).split(cell) if part.strip()]
    if len(parts) < 2:
        return [cell]
    return parts if is_remote(cell) else [cell, *parts]


def _url_path(url: str) -> PurePosixPath | None:
    """Return the path of a URL without host, query and fragment; None if it names no file."""
    text = url.strip()
    if text.lower().startswith("data:"):
        return None
    path = PurePosixPath(re.split(r"[?#]", text.partition("//")[2], maxsplit=1)[0])
    return PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 else None


def _repeated_file_names(names: Mapping[str, str]) -> set[str]:
    """Return the file names that end several different URLs, such as `main.jpg`: they do not name a product's image."""
    urls: dict[str, str] = {}
    repeated = set()
    for cell in names.values():
        for part in _split_names(cell) if is_remote(cell) else ():
            path = _url_path(part)
            if path is not None and urls.setdefault(path.name, part.strip()) != part.strip():
                repeated.add(path.name)
    return repeated


def _find_named(archives: Sequence[ImageArchive], name: str, repeated: Collection[str]) -> _Found:
    """Find the file of one name or URL in the first archive that has it.

    Raises:
        ImageError: the file is missing or must not be read.
    """
    code, wanted = "image_missing", name
    if is_remote(name):
        code, path = "image_remote", _url_path(name)
        if path is None:
            raise ImageError(code)
        wanted = str(path)
    for archive in archives:
        try:
            found = archive.find(wanted, whole_path=is_remote(name) and PurePosixPath(wanted).name in repeated)
        except ImageError as error:
            code = error.code if code == "image_missing" else code
            continue
        return archive, found, found if is_remote(name) else name
    raise ImageError(code)


@dataclass(frozen=True, order=True)
class _Candidate:
    """A file that may be of a product; the smallest is used."""

    fit: int
    number: int
    archive_no: int
    depth: int
    natural: tuple[tuple[int, int, str], ...]
    path: str
    has_image_suffix: bool


class _FilesByProduct:
    """Files that are named like a product, or lie in a folder that is."""

    def __init__(self, archives: Sequence[ImageArchive], ids: Collection[str]) -> None:
        self._archives, self._ids = archives, frozenset(ids)
        self._by_folded: dict[str, str | None] = {}
        for product in ids:
            folded = fold_name(product)
            self._by_folded[folded] = None if folded in self._by_folded else product
        self._candidates: dict[str, list[_Candidate]] = defaultdict(list)
        self._product_of: dict[tuple[int, str], str] = {}
        for number, archive in enumerate(archives):
            self._add_archive(number, archive)
        for candidates in self._candidates.values():
            candidates.sort()

    def find(self, product: str) -> _Found | None:
        """Return the file that fits a product best."""
        for candidate in self._candidates.get(product, ()):
            archive = self._archives[candidate.archive_no]
            if candidate.has_image_suffix or _has_image_content(archive, candidate.path):
                return archive, candidate.path, candidate.path
        return None

    def why_unused(self, archive: ImageArchive, path: str, names: Collection[str]) -> str:
        """Return why a file is not used; `names` are the products with a name in column `image`."""
        if path in archive.refused:
            return OUTSIDE if archive.refused[path] == "image_outside_folder" else NOT_A_FILE
        file = PurePosixPath(path)
        if _is_hidden(file):
            return NOT_AN_IMAGE
        product = self._product_of.get((id(archive), path))
        if file.suffix and file.suffix.lower() not in SUFFIXES and not (product and file.name == product):
            return NOT_AN_IMAGE
        if product is not None:
            if file.suffix.lower() not in SUFFIXES and not _has_image_content(archive, path):
                return NOT_AN_IMAGE
            return NAMED_OTHERWISE if product in names else NOT_FIRST
        return SEVERAL_PRODUCTS if self._by_folded.get(fold_name(file.stem), "") is None else NO_PRODUCT

    def _resolve(self, name: str) -> str | None:
        """Return the product id that a name stands for: itself, or the only one that differs just in case."""
        return name if name in self._ids else self._by_folded.get(fold_name(name))

    def _add_archive(self, number: int, archive: ImageArchive) -> None:
        """Add the files of an archive; a file in the folder of a product counts as a file of this product.

        A folder is not a product's but a part of a larger one (`01/0108.jpg`) if a file in it is named like a product
        that has no folder of its own.
        """
        files = [file for file in map(PurePosixPath, archive.names) if not _is_hidden(file)]
        owners = [self._folder_owner(file) for file in files]
        with_folder = {owner for owner in owners if owner is not None}
        kept: list[tuple[PurePosixPath, str | None, tuple[str, int, int] | None]] = []
        shards: set[str] = set()
        for file, owner in zip(files, owners, strict=True):
            own = self._own_name(file)
            if owner is not None and own is not None:
                if own[0] in with_folder and (own[0] != owner or _SHORT_NUMBER.fullmatch(file.stem)):
                    own = None  # 1/2.jpg is the second image of product 1, not one of product 2
                elif own[0] != owner:
                    shards.add(owner)
            kept.append((file, owner, own))
        for file, owner, own in kept:
            if own is None and owner is not None and owner not in shards:
                own = (owner, _IN_FOLDER, 0)
            if own is None:
                continue
            product, fit, position = own
            path = str(file)
            self._product_of[id(archive), path] = product
            self._candidates[product].append(
                _Candidate(
                    fit, position, number, len(file.parts), _natural_key(path), path, file.suffix.lower() in SUFFIXES
                )
            )

    def _folder_owner(self, file: PurePosixPath) -> str | None:
        """Return the product that the nearest folder is named like."""
        for folder in reversed(file.parts[:-1]):
            product = self._resolve(folder)
            if product is not None:
                return product
        return None

    def _own_name(self, file: PurePosixPath) -> tuple[str, int, int] | None:
        """Return the product a file name stands for, how well it fits, and the number after the id."""
        is_known = file.suffix.lower() in SUFFIXES
        product = self._resolve(file.stem)
        if product is not None and is_known:
            return product, _EXACT if file.stem == product else _OTHER_CASE, 0
        whole = self._resolve(file.name)
        if whole is not None or product is not None:
            return whole or product or "", _OTHER_SUFFIX, 0
        numbered = _NUMBERED.fullmatch(file.stem) if is_known else None
        if numbered is None:
            return None
        product = self._resolve(numbered[1] or numbered[3])
        return None if product is None else (product, _IN_NUMBERED, int(numbered[2] or numbered[4]))


def _is_hidden(file: PurePosixPath) -> bool:
    """Return whether a file was added by an operating system, such as `__MACOSX/._p1.jpg`."""
    return file.name.startswith(".") or "__MACOSX" in file.parts


def _has_image_content(archive: ImageArchive, path: str) -> bool:
    try:
        return is_image(archive.read(path, HEADER_BYTES))
    except ImageError:
        return False


def _natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts 2.jpg before 10.jpg."""
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFC", text))
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts if part)
