"""Cache of decoded product images in one memory-mapped file; a crash at any time leaves it consistent.

In: folders and zips of images, and the image name of each product. Out: `Images` for a catalogue, hashes, problems.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.artifacts import atomic as durable
from recsys.config import ImageSettings
from recsys.data import rejected_rows as rejects
from recsys.data.catalogue import Images
from recsys.data.id_map import IdMap
from recsys.data.image_archive import ImageArchive
from recsys.data.image_decoding import ImageError, decode_image
from recsys.data.image_matching import MatchedFile, match_images
from recsys.errors import ConfigError, ModelFolderError
from recsys.execution.failpoints import failpoint

_INDEX: Final = "index.parquet"
_PIXELS: Final = "pixels.u8"
_WINDOW: Final = 256
_WINDOW_BYTES: Final = 64_000_000
_SCHEMA: Final = {"product_id": pl.String, "row": pl.Int64, "sha256": pl.String, "code": pl.String}


@dataclass(frozen=True)
class _Entry:
    """Index entry of the image of a product: its row in the pixel file, -1 = unusable for the reason `code`."""

    row: int
    sha: str
    code: str | None


@dataclass(frozen=True)
class AddResult:
    """Result of `ImageStore.add`.

    Attributes:
        problems: rejected rows of unusable images (schema.REJECTED_COLUMNS, table_name `images`).
        used: product id to file name of the images that are in the store now.
        decoded: number of images decoded in this call.
        unchanged: number of images with the same bytes as before.
        unused: every file in the folders and zips that is used for no product, with the reason; paths are relative to
            the folder or zip, and start with its own path if there are several.
    """

    problems: pl.DataFrame
    used: dict[str, str]
    decoded: int
    unchanged: int
    unused: dict[str, str]


class ImageStore:
    """Images of one size in a folder: `pixels.u8`, raw (m, 3, S, S) bytes that only grow, and `index.parquet`.

    The index is replaced by one rename after the pixels are on disk; rows that it does not name are overwritten by the
    next call. One process may add at a time (the lease of the store guarantees it); many may read.

    Args:
        folder: created when an image is added.
        settings: size and limits.

    Raises:
        ConfigError: the folder has images of another size.
    """

    def __init__(self, folder: Path, settings: ImageSettings) -> None:
        self.folder, self.settings = folder, settings
        self._shape = (3, settings.size, settings.size)
        self._index = pl.DataFrame(schema=_SCHEMA)
        self._count = 0
        index = folder / _INDEX
        if index.exists():
            self._load_index(index)

    def _load_index(self, index: Path) -> None:
        size = pl.read_parquet_metadata(index).get("size")
        if size != str(self.settings.size):
            raise ConfigError(
                f"the images in {self.folder} were decoded at {size} pixels, but [images] size = "
                f"{self.settings.size}; set it back, or delete the folder and ingest the images again"
            )
        self._index = pl.read_parquet(index).select(list(_SCHEMA))
        self._count = int(self._index.select(pl.col("row").max() + 1).fill_null(0).item())
        pixels = self.folder / _PIXELS
        size_bytes = pixels.stat().st_size if pixels.exists() else 0
        if size_bytes < self._count * int(np.prod(self._shape)):
            raise ModelFolderError(
                f"{pixels} is shorter than its index says; delete {self.folder} and ingest the images again"
            )

    @cached_property
    def _entries(self) -> dict[str, _Entry]:
        """The index by product id, built on first use."""
        return {product: _Entry(row, sha, code) for product, row, sha, code in self._index.iter_rows()}

    def __len__(self) -> int:
        return sum(entry.row >= 0 for entry in self._entries.values())

    def __contains__(self, product_id: object) -> bool:
        return product_id in self._entries and self._entries[str(product_id)].row >= 0

    def hash_of(self, product_id: str) -> str | None:
        """Return the SHA-256 of the image file, None without a usable image."""
        entry = self._entries.get(product_id)
        return entry.sha if entry and entry.row >= 0 else None

    def hashes(self, ids: pl.Series) -> pl.Series:
        """Return `hash_of` for many products: (n,) String."""
        return _look_up(ids, self._index.filter(pl.col("row") >= 0))["sha256"]

    def images(self, ids: IdMap) -> Images:
        """Return the images of a catalogue, memory-mapped."""
        if not self._count:
            return Images.empty(len(ids), self.settings.size)
        rows = _look_up(pl.Series(ids.texts, dtype=pl.String), self._index)["row"].fill_null(-1).to_numpy()
        pixels = np.memmap(self.folder / _PIXELS, np.uint8, mode="r", shape=(self._count, *self._shape))
        return Images(pixels, rows)

    def add(
        self,
        sources: Path | Sequence[Path],
        names: Mapping[str, str],
        *,
        also: Collection[str] = (),
        source_name: str | None = None,
    ) -> AddResult:
        """Decode images of products into the store, in parallel; unchanged files are not decoded again.

        Args:
            sources: folders or zips; the first one that has a file name is used.
            names: product id to file name or URL, or several of them, of which the first that exists is used; a missing
                file is a problem, unless the store has an image of the product.
            also: products whose image is the file named like their id, if there is one; see `image_matching`.
            source_name: name of the source in problems; the first path by default.

        Raises:
            UsageError: a source is neither a folder nor a zip.
        """
        paths = [sources] if isinstance(sources, Path) else list(sources)
        problems: list[tuple[str, str, str]] = []
        used: dict[str, str] = {}
        new_entries: dict[str, _Entry] = {}
        unchanged = 0
        with ExitStack() as stack:
            archives = [ImageArchive(path) for path in paths]
            for archive in archives:
                stack.callback(archive.close)
            matches = match_images(archives, names, also)
            problems += [row for row in matches.problems if row[2] != "image_missing" or row[0] not in self]
            pool = stack.enter_context(ThreadPoolExecutor(min(8, os.cpu_count() or 1)))
            pixels: _Appender | None = None
            for product, name, entry, image in self._decode_files(matches.files, pool):
                if image is not None:
                    if pixels is None:
                        pixels = stack.enter_context(_Appender(self.folder, self._count, int(np.prod(self._shape))))
                    entry = _Entry(pixels.append(image), entry.sha, None)
                unchanged += self._entries.get(product) == entry
                new_entries[product] = entry
                if entry.code is None:
                    used[product] = name
                else:
                    problems.append((product, name, entry.code))
            if pixels is not None:
                pixels.flush()
        decoded = sum(entry.row >= 0 and self._entries.get(product) != entry for product, entry in new_entries.items())
        if any(self._entries.get(product) != entry for product, entry in new_entries.items()):
            self._entries.update(new_entries)
            self._count += decoded
            self._write_index()
        source = source_name or (str(paths[0]) if paths else "images")
        return AddResult(
            rejects.rejected_images(sorted(problems), source=source), used, decoded, unchanged, matches.unused
        )

    def _decode_files(
        self, files: Sequence[MatchedFile], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[str, str, _Entry, npt.NDArray[np.uint8] | None]]:
        """Decode in windows of bounded memory, in the given order."""
        limit = int(self.settings.max_megabytes * 1_000_000)
        window: list[tuple[str, str, _Entry, bytes | None]] = []
        window_bytes = 0
        for file in files:
            product, name = file.product, file.name
            try:
                data = file.archive.read(file.path, limit)
            except ImageError as error:
                window.append((product, name, _Entry(-1, "", error.code), None))
                continue
            sha = sha256(data).hexdigest()
            previous = self._entries.get(product)
            if previous is not None and previous.sha == sha:
                window.append((product, name, previous, None))
            else:
                window.append((product, name, _Entry(-1, sha, None), data))
                window_bytes += len(data)
            if len(window) >= _WINDOW or window_bytes > _WINDOW_BYTES:
                yield from pool.map(self._decode_one, window)
                window, window_bytes = [], 0
        yield from pool.map(self._decode_one, window)

    def _decode_one(
        self, task: tuple[str, str, _Entry, bytes | None]
    ) -> tuple[str, str, _Entry, npt.NDArray[np.uint8] | None]:
        product, name, entry, data = task
        if data is None:
            return product, name, entry, None
        try:
            return product, name, entry, decode_image(data, self.settings)
        except ImageError as error:
            return product, name, _Entry(-1, entry.sha, error.code), None

    def _write_index(self) -> None:
        """Replace the index: write a new file, sync it to disk, rename it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [(product, entry.row, entry.sha, entry.code) for product, entry in sorted(self._entries.items())]
        self._index = frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
        draft = self.folder / (_INDEX + ".new")
        with draft.open("wb") as file:
            frame.write_parquet(file, metadata={"size": str(self.settings.size)})
        durable.fsync_path(draft)
        failpoint("pictures.index.rename.before")
        draft.replace(self.folder / _INDEX)
        failpoint("pictures.index.rename.after")
        durable.fsync_path(self.folder)


def _look_up(ids: pl.Series, index: pl.DataFrame) -> pl.DataFrame:
    """Return the index rows of products in their order, nulls for unknown ones."""
    return ids.alias("product_id").to_frame().join(index, on="product_id", how="left", maintain_order="left")


class _Appender:
    """Appends images after those in the index and overwrites bytes left by a crash."""

    def __init__(self, folder: Path, count: int, image_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _PIXELS
        path.touch()
        self._file = path.open("r+b")
        self._file.truncate(count * image_bytes)
        self._file.seek(0, os.SEEK_END)
        self._next = count

    def __enter__(self) -> _Appender:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, image: npt.NDArray[np.uint8]) -> int:
        """Write one image and return its row."""
        self._file.write(image.tobytes())
        self._next += 1
        return self._next - 1

    def flush(self) -> None:
        """Sync all images to disk."""
        self._file.flush()
        durable.fsync_file(self._file.fileno())
