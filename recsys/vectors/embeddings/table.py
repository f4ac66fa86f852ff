"""The products' vectors, and of what content and which model each was made.

In: ids, vectors and content hashes in the catalogue's row order. Out: which rows are stale, a folder on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt

from recsys.artifacts import file_set as sealed
from recsys.data.catalogue import Catalogue
from recsys.data.id_map import IdMap
from recsys.errors import DataContractError, ModelFolderError
from recsys.types import FloatArray, IntArray
from recsys.vectors.embeddings import quantization as codes

_NAME = "embeddings"
_ID, _HASH = "product_id", "content_hash"

Storage = Literal["float32", "int8"]
"""How the numbers of a table lie on disk; in memory they are float32."""


class ProductEncoderProtocol(Protocol):
    """What is asked of a model: which content it looks at, and vectors."""

    @property
    def content_version(self) -> str:
        """Names the weights that product vectors come from; other weights, other version."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """Catalogue columns that decide a product's vector."""
        ...

    def encode(self, catalogue: Catalogue, rows: IntArray) -> FloatArray:
        """Vectors of some products: (m, d) float32, unit length."""
        ...


@dataclass(frozen=True)
class EmbeddingTable:
    """Vectors of n products; row i is product i.

    Attributes:
        ids: product ids.
        vectors: (n, d) float32, unit length, read-only; memory-mapped where they lie on disk as float32.
        hashes: (n,) uint64, hash of the content each vector was made of.
        model_id: version of the model that made them.
        storage: how `save` writes the vectors; one that was saved as int8 and loaded again holds what came back.
    """

    ids: IdMap
    vectors: FloatArray = field(repr=False)
    hashes: npt.NDArray[np.uint64] = field(repr=False)
    model_id: str
    storage: Storage = "float32"

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32 or self.hashes.dtype != np.uint64:
            raise DataContractError(
                f"embeddings must be (n, d) float32 with uint64 hashes, not {self.vectors.shape} {self.vectors.dtype} "
                f"with {self.hashes.dtype}"
            )
        if not (len(self.ids) == len(self.vectors) == len(self.hashes)):
            raise DataContractError(
                f"embedding parts disagree: {len(self.ids)} ids, {len(self.vectors)} vectors, {len(self.hashes)} hashes"
            )
        self.vectors.flags.writeable = False
        self.hashes.flags.writeable = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """d."""
        return int(self.vectors.shape[1])

    @staticmethod
    def empty(dim: int, model_id: str) -> EmbeddingTable:
        """A table without products."""
        return EmbeddingTable(IdMap(()), np.zeros((0, dim), np.float32), np.zeros(0, np.uint64), model_id)

    def stale_rows(self, catalogue: Catalogue, model: ProductEncoderProtocol) -> IntArray:
        """Catalogue rows without a vector of this model and of their present content, ascending: (m,) int64."""
        if self.model_id != model.content_version:
            return np.arange(len(catalogue), dtype=np.int64)
        wanted = catalogue.hashes(model.columns)
        if self.ids.texts == catalogue.ids.texts:
            return np.flatnonzero(self.hashes != wanted).astype(np.int64)
        own = self.ids.rows(catalogue.ids.texts)
        current = own >= 0
        current[current] = self.hashes[own[current]] == wanted[current]
        return np.flatnonzero(~current).astype(np.int64)

    def with_updates(
        self,
        catalogue: Catalogue,
        model: ProductEncoderProtocol,
        *,
        rows: IntArray,
        vectors: FloatArray,
        storage: Storage = "float32",
    ) -> EmbeddingTable:
        """A table in the catalogue's row order: `vectors` (m, d) at its `rows` (m,), this table's own elsewhere.

        `storage` says how the new table is saved.

        Raises:
            DataContractError: a vector is not finite, or a product is neither in `rows` nor in this table.
        """
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            product = catalogue.ids.texts[int(rows[bad[0]])]
            raise DataContractError(
                f"the model gave product {product!r} a vector that is not a number ({len(bad)} such); train it again"
            )
        out = np.empty((len(catalogue), vectors.shape[1]), np.float32)
        fresh = np.zeros(len(catalogue), np.bool_)
        fresh[rows] = True
        kept = np.flatnonzero(~fresh)
        own = self.ids.rows(catalogue.ids.ids(kept))
        if len(kept) and (own.min() < 0 or self.dim != out.shape[1]):
            raise DataContractError(f"{len(kept)} products are to keep vectors that this table does not have")
        if len(kept):
            out[kept] = self.vectors[own]
        out[rows] = vectors
        return EmbeddingTable(catalogue.ids, out, catalogue.hashes(model.columns), model.content_version, storage)

    def save(self, folder: Path) -> None:
        """Write the table; a reader sees the old one or this one, never a mix."""
        import polars as pl

        frame = pl.DataFrame({_ID: list(self.ids.texts), _HASH: self.hashes}, schema={_ID: pl.String, _HASH: pl.UInt64})
        if self.storage == "int8":
            numbers, scales = codes.quantize_int8(self.vectors)
            arrays: dict[str, npt.NDArray[np.generic]] = {"codes.npy": numbers, "scales.npy": scales}
        else:
            arrays = {"vectors.npy": self.vectors}
        sealed.write_file_set(
            folder,
            _NAME,
            parts={
                **{name: partial(_write_array, array) for name, array in arrays.items()},
                "products.parquet": frame.write_parquet,
            },
            metadata={
                "model_version": self.model_id,
                "products": len(self),
                "dim": self.dim,
                "storage": self.storage,
            },
        )

    @staticmethod
    def load(folder: Path) -> EmbeddingTable:
        """Read a table back: float32 vectors memory-mapped, int8 ones decoded.

        Raises:
            ModelFolderError: there is none, or a file is not the one that was written.
        """
        try:
            return sealed.read_file_set(folder, _NAME, _read)
        except FileNotFoundError as error:
            raise ModelFolderError(f"no embeddings in {folder}; run 'recsys embed'") from error

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a table was ever saved in the folder."""
        return (folder / f"{_NAME}.json").exists()


def _write_array(array: npt.NDArray[np.generic], path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array))


def _read(facts: sealed.Facts, paths: dict[str, Path]) -> EmbeddingTable:
    import polars as pl

    storage = str(facts.get("storage", "float32"))  # the first tables did not tell: there was only one way
    needed = ("codes.npy", "scales.npy") if storage == "int8" else ("vectors.npy",)
    if storage not in get_args(Storage) or not {*needed, "products.parquet"} <= paths.keys():
        raise ModelFolderError(f"the embeddings' manifest names no vectors as {storage}; run 'recsys embed --full'")
    held = [np.load(paths[name], mmap_mode="r") for name in needed]
    vectors = codes.dequantize_int8(*held) if storage == "int8" else held[0]
    frame = pl.read_parquet(paths["products.parquet"])
    return EmbeddingTable(
        IdMap(frame[_ID].to_list()),
        vectors,
        frame[_HASH].to_numpy().copy(),
        str(facts["model_version"]),
        cast(Storage, storage),
    )
