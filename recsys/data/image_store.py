"""The decoded pictures of all products, in one memory-mapped file that survives a crash at any moment.

In: albums (folders, zips), and the name of each product's picture. Out: `Images` for a catalogue, hashes, problems.
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
from recsys.errors import ConfigError, ModelFolderError
from recsys.execution.failpoints import failpoint

_INDEX: Final = "index.parquet"
_PIXELS: Final = "pixels.u8"
_WINDOW: Final = 256
_WINDOW_BYTES: Final = 64_000_000
_SCHEMA: Final = {"product_id": pl.String, "row": pl.Int64, "sha256": pl.String, "code": pl.String}


@dataclass(frozen=True)
class _Entry:
    """What is known of a product's picture: its row in the pixel file (-1 = unusable, then `code` says why)."""

    row: int
    sha: str
    code: str | None


@dataclass(frozen=True)
class AddResult:
    """What `ImageStore.add` did.

    Attributes:
        problems: rejected rows of pictures that cannot be used (schema.REJECTED_COLUMNS, table_name `images`).
        used: product id to file name of the pictures that are in the store now.
        decoded: pictures decoded in this call.
        unchanged: pictures whose bytes were known already.
    """

    problems: pl.DataFrame
    used: dict[str, str]
    decoded: int
    unchanged: int


class ImageStore:
    """Pictures of one size in a folder: `pixels.u8`, raw (m, 3, S, S) bytes that only grow, and `index.parquet`.

    The index is replaced in one rename after the pixels are on disk: rows it does not name do not exist, and are
    overwritten by the next call. One process may add at a time (the store's lease sees to that); many may read.

    Args:
        folder: is made when something is added.
        settings: size and limits.

    Raises:
        ConfigError: the folder holds pictures of another size.
    """

    def __init__(self, folder: Path, settings: ImageSettings) -> None:
        self.folder, self.settings = folder, settings
        self._shape = (3, settings.size, settings.size)
        self._index = pl.DataFrame(schema=_SCHEMA)
        self._count = 0
        index = folder / _INDEX
        if index.exists():
            self._read(index)

    def _read(self, index: Path) -> None:
        size = pl.read_parquet_metadata(index).get("size")
        if size != str(self.settings.size):
            raise ConfigError(
                f"the pictures in {self.folder} were decoded at {size} pixels, but [images] size = "
                f"{self.settings.size}; set it back, or delete the folder and ingest the pictures again"
            )
        self._index = pl.read_parquet(index).select(list(_SCHEMA))
        self._count = int(self._index.select(pl.col("row").max() + 1).fill_null(0).item())
        pixels = self.folder / _PIXELS
        held = pixels.stat().st_size if pixels.exists() else 0
        if held < self._count * int(np.prod(self._shape)):
            raise ModelFolderError(
                f"{pixels} is shorter than its index says; delete {self.folder} and ingest the pictures again"
            )

    @cached_property
    def _entries(self) -> dict[str, _Entry]:
        """The index by product id; made where single products are asked for."""
        return {product: _Entry(row, sha, code) for product, row, sha, code in self._index.iter_rows()}

    def __len__(self) -> int:
        return sum(entry.row >= 0 for entry in self._entries.values())

    def __contains__(self, product_id: object) -> bool:
        return product_id in self._entries and self._entries[str(product_id)].row >= 0

    def hash_of(self, product_id: str) -> str | None:
        """SHA-256 of the picture's file, None where there is no usable picture."""
        entry = self._entries.get(product_id)
        return entry.sha if entry and entry.row >= 0 else None

    def hashes(self, ids: pl.Series) -> pl.Series:
        """As `hash_of`, for many products: (n,) String."""
        return _looked_up(ids, self._index.filter(pl.col("row") >= 0))["sha256"]

    def pictures(self, ids: IdMap) -> Images:
        """The pictures of a catalogue, memory-mapped."""
        if not self._count:
            return Images.empty(len(ids), self.settings.size)
        rows = _looked_up(pl.Series(ids.texts, dtype=pl.String), self._index)["row"].fill_null(-1).to_numpy()
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
        """Decode the pictures of products into the store, in parallel; unchanged files are not decoded again.

        Args:
            sources: folders or zips; the first that has a name gives it.
            names: product id to file name; one that is nowhere is a problem, unless the store has a picture already.
            also: products whose picture is a file named like their id, where there is one.
            source_name: how problems name their source; default the first path.

        Raises:
            UsageError: a source is no folder and no zip.
        """
        paths = [sources] if isinstance(sources, Path) else list(sources)
        problems: list[tuple[str, str, str]] = []
        used: dict[str, str] = {}
        fresh: dict[str, _Entry] = {}
        unchanged = 0
        with ExitStack() as stack:
            albums = [ImageArchive(path) for path in paths]
            for album in albums:
                stack.callback(album.close)
            found = self._found(albums, names, also, problems)
            pool = stack.enter_context(ThreadPoolExecutor(min(8, os.cpu_count() or 1)))
            pixels: _Appender | None = None
            for product, name, entry, picture in self._decoded(found, pool):
                if picture is not None:
                    if pixels is None:
                        pixels = stack.enter_context(_Appender(self.folder, self._count, int(np.prod(self._shape))))
                    entry = _Entry(pixels.append(picture), entry.sha, None)
                unchanged += self._entries.get(product) == entry
                fresh[product] = entry
                if entry.code is None:
                    used[product] = name
                else:
                    problems.append((product, name, entry.code))
            if pixels is not None:
                pixels.flush()
        decoded = sum(entry.row >= 0 and self._entries.get(product) != entry for product, entry in fresh.items())
        if any(self._entries.get(product) != entry for product, entry in fresh.items()):
            self._entries.update(fresh)
            self._count += decoded
            self._write()
        source = source_name or (str(paths[0]) if paths else "images")
        return AddResult(rejects.rejected_images(sorted(problems), source=source), used, decoded, unchanged)

    def _found(
        self,
        albums: Sequence[ImageArchive],
        names: Mapping[str, str],
        also: Collection[str],
        problems: list[tuple[str, str, str]],
    ) -> Iterator[tuple[str, str, ImageArchive, str]]:
        """Product, name, album and path inside, album by album in a fixed order."""
        for product, name in sorted(names.items()):
            code = "image_missing"
            for album in albums:
                try:
                    inside = album.find(name)
                except ImageError as error:
                    code = error.code if code == "image_missing" else code
                    continue
                code = ""
                yield product, name, album, inside
                break
            if code and (code != "image_missing" or product not in self):
                problems.append((product, name, code))
        done = set(names)
        wanted = set(also) - done
        for album in albums:
            for stem, inside in sorted(album.stems().items()):
                if stem in wanted:
                    wanted.discard(stem)
                    yield stem, inside, album, inside

    def _decoded(
        self, found: Iterator[tuple[str, str, ImageArchive, str]], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[str, str, _Entry, npt.NDArray[np.uint8] | None]]:
        """Decode in windows of bounded memory; order is kept."""
        limit = int(self.settings.max_megabytes * 1_000_000)
        window: list[tuple[str, str, _Entry, bytes | None]] = []
        held = 0
        for product, name, album, inside in found:
            try:
                data = album.read(inside, limit)
            except ImageError as error:
                window.append((product, name, _Entry(-1, "", error.code), None))
                continue
            sha = sha256(data).hexdigest()
            known = self._entries.get(product)
            if known is not None and known.sha == sha:
                window.append((product, name, known, None))
            else:
                window.append((product, name, _Entry(-1, sha, None), data))
                held += len(data)
            if len(window) >= _WINDOW or held > _WINDOW_BYTES:
                yield from pool.map(self._one, window)
                window, held = [], 0
        yield from pool.map(self._one, window)

    def _one(
        self, task: tuple[str, str, _Entry, bytes | None]
    ) -> tuple[str, str, _Entry, npt.NDArray[np.uint8] | None]:
        product, name, entry, data = task
        if data is None:
            return product, name, entry, None
        try:
            return product, name, entry, decode_image(data, self.settings)
        except ImageError as error:
            return product, name, _Entry(-1, entry.sha, error.code), None

    def _write(self) -> None:
        """Replace the index: written beside, brought to disk, renamed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [(product, entry.row, entry.sha, entry.code) for product, entry in sorted(self._entries.items())]
        self._index = frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
        beside = self.folder / (_INDEX + ".new")
        with beside.open("wb") as file:
            frame.write_parquet(file, metadata={"size": str(self.settings.size)})
        durable.fsync_path(beside)
        failpoint("pictures.index.rename.before")
        beside.replace(self.folder / _INDEX)
        failpoint("pictures.index.rename.after")
        durable.fsync_path(self.folder)


def _looked_up(ids: pl.Series, index: pl.DataFrame) -> pl.DataFrame:
    """The index's rows of some products in their order, nulls for those it has not."""
    return ids.alias("product_id").to_frame().join(index, on="product_id", how="left", maintain_order="left")


class _Appender:
    """Writes pictures behind the ones the index knows, over whatever a crash left there."""

    def __init__(self, folder: Path, count: int, picture_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _PIXELS
        path.touch()
        self._file = path.open("r+b")
        self._file.truncate(count * picture_bytes)
        self._file.seek(0, os.SEEK_END)
        self._next = count

    def __enter__(self) -> _Appender:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, picture: npt.NDArray[np.uint8]) -> int:
        """Write one picture and return its row."""
        self._file.write(picture.tobytes())
        self._next += 1
        return self._next - 1

    def flush(self) -> None:
        """Bring everything to disk."""
        self._file.flush()
        durable.fsync_file(self._file.fileno())
