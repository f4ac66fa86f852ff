"""Hashes of embedding rows, and one hash of a full table.

In: vectors (n, d), ids. Out: digests (n,) uint64, and the digest that ties an index file to its table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.types import FloatArray

HashArray = npt.NDArray[np.uint64]

_CHUNK: Final = 4096


def row_hashes(vectors: FloatArray) -> HashArray:
    """Return a digest of each row's bytes: (n,) uint64.

    Multilinear hashing (Carter and Wegman 1979): the row's 32-bit words times fixed odd 64-bit numbers, summed. Rows
    that differ in one word never share a digest, others with a chance below 2**-32. It protects against chance only,
    which is enough: a changed row the index misses costs recall, never a wrong score.
    """
    out = np.empty(len(vectors), np.uint64)
    factors = np.random.default_rng(20_260_000).integers(1 << 63, size=vectors.shape[1], dtype=np.uint64) * 2 + 1
    for start in range(0, len(vectors), _CHUNK):
        words = np.ascontiguousarray(vectors[start : start + _CHUNK], np.float32).view(np.uint32)
        out[start : start + _CHUNK] = words.astype(np.uint64) @ factors
    return out


def table_hash(ids: Sequence[str], digests: HashArray) -> str:
    """Return a hexadecimal digest of the ids and their rows' digests, in order."""
    state = hashlib.sha256(np.fromiter(map(len, ids), np.int64, len(ids)).tobytes())
    state.update("".join(ids).encode("utf-8", "surrogatepass"))
    state.update(digests.tobytes())
    return state.hexdigest()
