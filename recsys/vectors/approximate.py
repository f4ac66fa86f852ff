"""Approximate search by FAISS, for catalogues too large to scan: inverted files of vectors or codes, or a graph.

In: vectors (n, d), a FAISS index over them. Out: an index that finds most of the true neighbours in a small part of the
time; what FAISS finds is scored again by the vectors themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys.vectors import engines, exact, gpu
from recsys.vectors.exact import Device, Flags, FlatIndex, Rows, Vectors

EFFORTS: Final[dict[str, tuple[int, ...]]] = {
    "ivf": (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    "hnsw": (32, 48, 64, 96, 128, 192, 256, 384, 512),
    "pq": (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
}
"""Efforts to try by kind, cheapest first."""

SPARE: Final = 4
"""Rows fetched beyond k: FAISS rounds in its own way."""

WIDTH: Final = {"ivf": 1, "hnsw": 1, "pq": 10}
"""Rows fetched for each row wanted, so that the best by codes hold the best by vectors."""

_SCANNED, _SHARE = 2000, 0.02
"""Rows that count up to which they are scanned: so many, or such a share of all."""


@dataclass(frozen=True)
class FaissIndex:
    """What FAISS finds is scored again, and a query it finds fewer than k rows for is scanned.

    Attributes:
        vectors: (n, d) float32.
        kind: "ivf", "hnsw" or "pq".
        engine: the FAISS index over the same rows.
        effort: lists visited (ivf, pq) or length of the candidate queue (hnsw).
        device: where FAISS searches; only an inverted file of vectors can on a GPU, and only without a filter.
    """

    vectors: Vectors = field(repr=False)
    kind: str
    engine: Any = field(repr=False)
    effort: int
    device: Device = "cpu"

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def gone(self) -> int:
        """Places of the FAISS index that belong to no product any more."""
        return int(self.engine.ntotal) - len(self)

    @cached_property
    def on_gpu(self) -> bool:
        """Whether searches without a filter go to a GPU."""
        return gpu.there(self.device) and self.kind == "ivf" and self.effort <= gpu.MOST

    @cached_property
    def _copy(self) -> Any:
        return gpu.copied(self.engine)

    def search(self, queries: Vectors, k: int, *, allow: Flags | None = None) -> tuple[Vectors, Rows]:
        queries = exact.checked(queries, self.vectors, k, allow)
        counted = len(self) if allow is None else int(np.count_nonzero(allow))
        # A search that may keep few of the rows it passes finds little; few rows are quickly scanned.
        if allow is not None and counted <= max(_SCANNED, len(self) * _SHARE):
            return FlatIndex(self.vectors, self.device).search(queries, k, allow=allow)
        fetched = min(len(self), (k + SPARE) * WIDTH[self.kind])
        if allow is None and not self.gone and self.on_gpu and fetched <= gpu.MOST:
            found = self._copy.search(queries, fetched, params=plain(self.kind, self.effort))[1]
        else:
            found = self.engine.search(queries, fetched, params=self._parameters(fetched, allow))[1]
        unsure = found[:, min(k, counted) - 1] < 0
        if found.shape[1] > k + SPARE:
            found = _best(self.vectors, queries, found, k + SPARE)
        return exact.settled(self.vectors, queries, k, found, unsure=unsure, allow=allow)

    def save(self, path: Path) -> None:
        """Write the FAISS part; the vectors themselves lie in the embedding table."""
        import faiss

        faiss.write_index(self.engine, str(path))

    def _parameters(self, fetched: int, allow: Flags | None) -> Any:
        effort = self.effort if self.kind != "hnsw" else max(self.effort, fetched)
        if allow is not None:
            return filtered(self.kind, effort, selector(allow))
        return filtered(self.kind, effort, self._present) if self.gone else plain(self.kind, effort)

    @cached_property
    def _present(self) -> Any:
        return selector(np.ones(len(self), np.bool_))


def _best(vectors: Vectors, queries: Vectors, found: Rows, kept: int) -> Rows:
    """The `kept` best of each line of found rows (q, f), -1 = none, by the vectors as FAISS multiplies them."""
    import faiss

    scores = np.empty(found.shape, np.float32)
    pointers = map(faiss.swig_ptr, (scores, queries, np.ascontiguousarray(vectors), found))
    faiss.fvec_inner_products_by_idx(*pointers, vectors.shape[1], len(found), found.shape[1])
    scores[found < 0] = -np.inf
    best = np.argpartition(scores, found.shape[1] - kept, axis=1)[:, -kept:]
    out: Rows = found[np.arange(len(found))[:, None], best]
    return out


def selector(allow: Flags) -> Any:
    """FAISS' own form of a mask (n,); a row of -1 is not in it."""
    import faiss

    return faiss.IDSelectorBitmap(np.packbits(allow, bitorder="little"))


def filtered(kind: str, effort: int, rows: Any) -> Any:
    """Parameters of one search among the rows that a selector lets through."""
    import faiss

    if kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=effort, sel=rows)
    return faiss.SearchParametersIVF(nprobe=effort, sel=rows)


@cache
def plain(kind: str, effort: int) -> Any:
    """Parameters of a search among all rows; kept, since making them takes as long as looking into a list."""
    import faiss

    return faiss.SearchParametersHNSW(efSearch=effort) if kind == "hnsw" else faiss.SearchParametersIVF(nprobe=effort)


def engine(vectors: Vectors, kind: str, *, seed: int, device: Device = "cpu") -> Any:
    """Train and fill the FAISS index of a kind with vectors (n, d), n > 0."""
    return engines.made(vectors, kind, seed=seed, on_gpu=gpu.there(device))
