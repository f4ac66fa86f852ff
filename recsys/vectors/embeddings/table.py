"""Embedding table: the product vectors, with the content hash and the model version of each.

In: ids, vectors and content hashes in the catalogue's row order. Out: the stale rows, a folder on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt

from recsys.artifacts import file_set
from recsys.data.catalogue import Catalogue
from recsys.data.id_map import IdMap
from recsys.errors import DataContractError, ModelFolderError
from recsys.types import FloatArray, IntArray
from recsys.vectors.embeddings.quantization import dequantize_int8, quantize_int8

_NAME = "embeddings"
_ID, _HASH = "product_id", "content_hash"

Storage = Literal["float32", "int8"]
"""Number format of a table on disk; in memory vectors are float32."""


class ProductEncoderProtocol(Protocol):
    """Interface of a product encoder: the columns it reads, and vectors."""

    @property
    def content_version(self) -> str:
        """Version of the weights that compute product vectors; changes with the weights."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """Catalogue columns that determine a product's vector."""
        ...

    def encode(self, catalogue: Catalogue, rows: IntArray) -> FloatArray:
        """Return vectors of some products: (m, d) float32, unit length."""
        ...


@dataclass(frozen=True)
class EmbeddingTable:
    """Vectors of n products; row i is product i.

    Attributes:
        ids: product ids.
        vectors: (n, d) float32, unit length, read-only; memory-mapped where stored as float32.
        hashes: (n,) uint64, hash of the content each vector was computed from.
        model_id: version of the model that computed the vectors.
        storage: format `save` writes; a table saved as int8 and loaded again holds the decoded vectors.
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
        """Vector length d."""
        return int(self.vectors.shape[1])

    @staticmethod
    def empty(dim: int, model_id: str) -> EmbeddingTable:
        """Return a table without products."""
        return EmbeddingTable(IdMap(()), np.zeros((0, dim), np.float32), np.zeros(0, np.uint64), model_id)

    def stale_rows(self, catalogue: Catalogue, model: ProductEncoderProtocol) -> IntArray:
        """Return catalogue rows without a current vector of this model: (m,) int64, ascending.

        A vector is current when it was computed from the product's present content.
        """
        if self.model_id != model.content_version:
            return np.arange(len(catalogue), dtype=np.int64)
        expected = catalogue.hashes(model.columns)
        if self.ids.texts == catalogue.ids.texts:
            return np.flatnonzero(self.hashes != expected).astype(np.int64)
        table_rows = self.ids.rows(catalogue.ids.texts)
        current = table_rows >= 0
        current[current] = self.hashes[table_rows[current]] == expected[current]
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
        """Return a table in the catalogue's row order with new vectors for some products.

        Args:
            catalogue: the products of the new table.
            model: the encoder of the new vectors.
            rows: (m,) catalogue rows that get a new vector; the others keep the one of this table.
            vectors: (m, d) the new vectors.
            storage: format in which the new table is saved.

        Raises:
            DataContractError: a vector is not finite, or a product is neither in `rows` nor in this table.
        """
        invalid = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(invalid):
            product = catalogue.ids.texts[int(rows[invalid[0]])]
            raise DataContractError(
                f"the model gave product {product!r} a vector that is not a number ({len(invalid)} such); "
                f"train it again"
            )
        out = np.empty((len(catalogue), vectors.shape[1]), np.float32)
        is_new = np.zeros(len(catalogue), np.bool_)
        is_new[rows] = True
        unchanged = np.flatnonzero(~is_new)
        table_rows = self.ids.rows(catalogue.ids.ids(unchanged))
        if len(unchanged) and (table_rows.min() < 0 or self.dim != out.shape[1]):
            raise DataContractError(
                f"embeddings: {len(unchanged)} unchanged products have no vector in the previous table; "
                "run 'recsys embed --full'"
            )
        if len(unchanged):
            out[unchanged] = self.vectors[table_rows]
        out[rows] = vectors
        return EmbeddingTable(catalogue.ids, out, catalogue.hashes(model.columns), model.content_version, storage)

    def save(self, folder: Path) -> None:
        """Write the table atomically: a reader sees the previous table or this one, never a mix."""
        import polars as pl

        frame = pl.DataFrame({_ID: list(self.ids.texts), _HASH: self.hashes}, schema={_ID: pl.String, _HASH: pl.UInt64})
        if self.storage == "int8":
            codes, scales = quantize_int8(self.vectors)
            arrays: dict[str, npt.NDArray[np.generic]] = {"codes.npy": codes, "scales.npy": scales}
        else:
            arrays = {"vectors.npy": self.vectors}
        file_set.write_file_set(
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
        """Read a table: float32 vectors are memory-mapped, int8 ones decoded.

        Raises:
            ModelFolderError: there is no table, or a file differs from the one that was written.
        """
        try:
            return file_set.read_file_set(folder, _NAME, _read_table)
        except FileNotFoundError as error:
            raise ModelFolderError(f"no embeddings in {folder}; run 'recsys embed'") from error

    @staticmethod
    def exists(folder: Path) -> bool:
        """Return whether a table was ever saved in the folder."""
        return (folder / f"{_NAME}.json").exists()


def _write_array(array: npt.NDArray[np.generic], path: Path) -> None:
    """Write an array in the .npy format."""
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array))


def _read_table(metadata: file_set.Facts, paths: dict[str, Path]) -> EmbeddingTable:
    """Build a table from the verified files of its folder."""
    import polars as pl

    storage = str(metadata.get("storage", "float32"))  # the first tables lack the key; they are float32
    needed = ("codes.npy", "scales.npy") if storage == "int8" else ("vectors.npy",)
    if storage not in get_args(Storage) or not {*needed, "products.parquet"} <= paths.keys():
        raise ModelFolderError(f"embeddings: the manifest lists no {storage} vectors; run 'recsys embed --full'")
    arrays = [np.load(paths[name], mmap_mode="r") for name in needed]
    vectors = dequantize_int8(*arrays) if storage == "int8" else arrays[0]
    frame = pl.read_parquet(paths["products.parquet"])
    return EmbeddingTable(
        IdMap(frame[_ID].to_list()),
        vectors,
        frame[_HASH].to_numpy().copy(),
        str(metadata["model_version"]),
        cast(Storage, storage),
    )
