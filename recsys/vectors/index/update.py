"""Incremental update of a FAISS index: only added, removed and changed products are written.

In: the FAISS index of an earlier table with its ids and digests, the current table. Out: the same index over the
current rows, or the reason to rebuild it.
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
from recsys.vectors.embeddings.hashing import HashArray
from recsys.vectors.index import faiss_factory

_ID, _DIGEST = "product_id", "digest"


@dataclass(frozen=True)
class IndexDelta:
    """Differences between an earlier table and the current one.

    Attributes:
        new_rows: (m,) int64, current row of each earlier row; -1 where the product was removed or its vector changed.
        rows_to_add: current rows to add, ascending.
        added: number of new products.
        removed: number of removed products.
        changed: number of products with a changed vector.
    """

    new_rows: IntArray = field(repr=False)
    rows_to_add: IntArray = field(repr=False)
    added: int
    removed: int
    changed: int

    @staticmethod
    def from_digests(ids: IdMap, digests: HashArray, *, old_ids: list[str], old_digests: HashArray) -> IndexDelta:
        """Compare current products and vector digests with the earlier ones."""
        current_rows = ids.rows(old_ids)
        is_present = current_rows >= 0
        is_unchanged = is_present.copy()
        is_unchanged[is_present] = digests[current_rows[is_present]] == old_digests[is_present]
        new_rows = np.where(is_unchanged, current_rows, -1)
        is_fresh = np.ones(len(ids), np.bool_)
        is_fresh[new_rows[is_unchanged]] = False
        changed = int(is_present.sum() - is_unchanged.sum())
        removed = len(old_ids) - int(is_present.sum())
        return IndexDelta(
            new_rows, np.flatnonzero(is_fresh).astype(np.int64), int(is_fresh.sum()) - changed, removed, changed
        )

    @property
    def size(self) -> int:
        """Number of products that were added, removed or changed."""
        return self.added + self.removed + self.changed

    def __str__(self) -> str:
        counts = {"added": self.added, "removed": self.removed, "changed": self.changed}
        return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "another order"


def rebuild_reason(delta: IndexDelta, engine: Any, settings: IndexSettings, *, trained: int, moved: int) -> str | None:
    """Return why an index should be rebuilt instead of updated; None when it can be updated.

    Args:
        delta: the update to apply.
        engine: the FAISS index as saved.
        settings: limits.
        trained: products the index was trained on.
        moved: products added, removed or changed since training, without this update.
    """
    drift = (moved + delta.size) / max(1, trained)
    if drift > settings.max_changed:
        return (
            f"{drift:.1%} of the products were added, removed or changed since it was trained, more than [index] "
            f"max_changed = {settings.max_changed:.1%}"
        )
    remaining = int((delta.new_rows >= 0).sum())
    free_slots = faiss_factory.slots_after_removal(engine, remaining) - remaining
    if free_slots > settings.max_removed * (free_slots + remaining + len(delta.rows_to_add)):
        return (
            f"{free_slots:,} of its slots hold removed products, more than [index] max_removed = "
            f"{settings.max_removed:.1%}"
        )
    return None


def apply_delta(engine: Any, delta: IndexDelta, vectors: FloatArray) -> None:
    """Update a FAISS index in place, so that it covers the current vectors (n, d)."""
    faiss_factory.change_ids(engine, delta.new_rows)
    faiss_factory.add_rows(engine, vectors[delta.rows_to_add], delta.rows_to_add)


def write_rows(ids: IdMap, digests: HashArray, path: Path) -> None:
    """Write the products of an index in row order, with the digests of their vectors."""
    pl.DataFrame({_ID: list(ids.texts), _DIGEST: digests}, schema={_ID: pl.String, _DIGEST: pl.UInt64}).write_parquet(
        path
    )


def read_rows(path: Path) -> tuple[list[str], HashArray]:
    """Read the ids and digests that `write_rows` wrote."""
    frame = pl.read_parquet(path)
    return frame[_ID].to_list(), frame[_DIGEST].to_numpy().copy()
