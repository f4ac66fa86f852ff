"""Vectors for `search.py`: those of a file or of our own embeddings, or made ones; and a later state of the same table.

In: a path, or how many and a seed. Out: unit vectors (n, d) float32, ids, masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.id_map import IdMap
from recsys.types import BoolArray, FloatArray
from recsys.vectors.embeddings.table import EmbeddingTable

TOPICS, LATENT, SPREAD, NOISE = 1000, 32, 0.6, 0.1
_BLOCK = 65_536


def made(n: int, d: int, *, seed: int) -> FloatArray:
    """Products (n, d) around topics of uneven size; most of what tells them apart lies in a few directions."""
    g = np.random.default_rng([seed, 0])
    latent = min(LATENT, d)
    scale = 1 / np.sqrt(1 + np.arange(latent) / 4)
    basis = np.linalg.qr(g.normal(size=(d, latent)))[0].T
    topics = g.normal(size=(TOPICS, latent)) * scale
    often = 1 / (10 + np.arange(TOPICS))
    out = np.empty((n, d), np.float32)
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        which = g.choice(TOPICS, size=size, p=often / often.sum())
        inner = topics[which] + SPREAD * scale * g.normal(size=(size, latent))
        out[start : start + size] = _unit(inner @ basis + NOISE * g.normal(size=(size, d)) * np.sqrt(latent / d))
    return out


def read(path: Path) -> FloatArray:
    """Vectors of an .npy file, of the first list column of a .parquet file, or of a folder of our embeddings."""
    if path.is_dir():
        return np.ascontiguousarray(EmbeddingTable.load(path).vectors)
    if path.suffix == ".npy":
        return _unit(np.load(path, allow_pickle=False))
    frame = pl.read_parquet(path)
    name = next(name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array))
    return _unit(np.array(frame[name].to_list(), np.float32))


def table(vectors: FloatArray) -> EmbeddingTable:
    """The vectors as a table of products."""
    ids = IdMap(f"p{row:09d}" for row in range(len(vectors)))
    return EmbeddingTable(ids, vectors, np.zeros(len(vectors), np.uint64), "made")


def later(before: EmbeddingTable, share: float, *, seed: int) -> EmbeddingTable:
    """The table after a third of `share` of its products were removed, a third added, and a third given other vectors.

    What is new lies between two of the products there were.
    """
    g, n = np.random.default_rng([seed, 1]), len(before)
    each = max(1, round(n * share / 3))
    drawn = g.permutation(n)
    removed, moved = drawn[:each], drawn[each : 2 * each]
    vectors = before.vectors.copy()
    one, other = g.choice(n, (2, 2 * each))
    new = _unit(0.6 * before.vectors[one].astype(np.float64) + 0.4 * before.vectors[other])
    vectors[moved] = new[:each]
    kept = np.ones(n, np.bool_)
    kept[removed] = False
    ids = [*before.ids.ids(np.flatnonzero(kept)), *(f"q{row:09d}" for row in range(each))]
    vectors = np.concatenate([vectors[kept], new[each:]])
    return EmbeddingTable(IdMap(ids), vectors, np.zeros(len(vectors), np.uint64), "made")


def mask(n: int, share: float, *, seed: int) -> BoolArray:
    """A filter that lets so large a share of the products through: (n,)."""
    g = np.random.default_rng([seed, 2, round(1e6 * share)])
    allow = np.zeros(n, np.bool_)
    allow[g.choice(n, size=max(1, round(n * share)), replace=False)] = True
    return allow


def _unit(x: npt.NDArray[np.floating]) -> FloatArray:
    wide = np.asarray(x, np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-9).astype(np.float32)
