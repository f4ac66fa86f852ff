"""An index kept in step with its table: only what was added, removed or changed goes in and out.

In: the FAISS index of older vectors, what it knew of them, today's table. Out: the same index over today's rows, or why
it has to be built anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.config import IndexSettings
from recsys.data.id_map import IdMap
from recsys.types import FloatArray, IntArray
from recsys.vectors.embeddings.hashing import Digests
from recsys.vectors.index import faiss_factory as engines

_ID, _DIGEST = "product_id", "digest"


@dataclass(frozen=True)
class IndexDelta:
    """What became of the rows of an older table.

    Attributes:
        to: (m,) int64, today's row of each older row; -1 where the product is gone or its vector is another.
        fresh: today's rows to put in, ascending.
        added: products that are new.
        removed: products that are gone.
        changed: products whose vector is another.
    """

    to: IntArray = field(repr=False)
    fresh: IntArray = field(repr=False)
    added: int
    removed: int
    changed: int

    @staticmethod
    def between(ids: IdMap, digests: Digests, *, old_ids: list[str], old_digests: Digests) -> IndexDelta:
        """Compare today's products and digests of their vectors with the older ones, product by product."""
        own = ids.rows(old_ids)
        kept = own >= 0
        same = kept.copy()
        same[kept] = digests[own[kept]] == old_digests[kept]
        to = np.where(same, own, -1)
        fresh = np.ones(len(ids), np.bool_)
        fresh[to[same]] = False
        changed = int(kept.sum() - same.sum())
        removed = len(old_ids) - int(kept.sum())
        return IndexDelta(to, np.flatnonzero(fresh).astype(np.int64), int(fresh.sum()) - changed, removed, changed)

    @property
    def size(self) -> int:
        """Products it touches."""
        return self.added + self.removed + self.changed

    def __str__(self) -> str:
        counts = {"added": self.added, "removed": self.removed, "changed": self.changed}
        return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "another order"


def rebuild_reason(change: IndexDelta, engine: Any, settings: IndexSettings, *, trained: int, moved: int) -> str | None:
    """Why a change should not be made in place; None when it can.

    Args:
        change: to be made.
        engine: the FAISS index as it was saved.
        settings: the bounds.
        trained: products the index was trained on.
        moved: products added, removed or changed since, this change not counted.
    """
    drift = (moved + change.size) / max(1, trained)
    if drift > settings.max_changed:
        return (
            f"{drift:.1%} of the products were added, removed or changed since it was trained, more than [index] "
            f"max_changed = {settings.max_changed:.1%}"
        )
    left = int((change.to >= 0).sum())
    gone = engines.slots_after(engine, left) - left
    if gone > settings.max_removed * (gone + left + len(change.fresh)):
        return (
            f"{gone:,} of its places belong to no product any more, more than [index] max_removed = "
            f"{settings.max_removed:.1%}"
        )
    return None


def apply_delta(engine: Any, change: IndexDelta, vectors: FloatArray) -> None:
    """Make a change in a FAISS index, so that it is over today's vectors (n, d)."""
    engines.renumber(engine, change.to)
    engines.add_rows(engine, vectors[change.fresh], change.fresh)


def write_rows(ids: IdMap, digests: Digests, path: Path) -> None:
    """Note what an index knows: products in the order of its rows, and the digests of their vectors."""
    pl.DataFrame({_ID: list(ids.texts), _DIGEST: digests}, schema={_ID: pl.String, _DIGEST: pl.UInt64}).write_parquet(
        path
    )


def read_rows(path: Path) -> tuple[list[str], Digests]:
    """What `write_rows` wrote."""
    frame = pl.read_parquet(path)
    return frame[_ID].to_list(), frame[_DIGEST].to_numpy().copy()
