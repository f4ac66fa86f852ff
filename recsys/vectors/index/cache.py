"""Cached index of an embedding table: loaded, updated or rebuilt as needed.

In: an embedding table, settings, a folder. Out: an index over exactly this table, its metrics, and what was done. The
file is only a cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys.artifacts import file_set
from recsys.config import IndexSettings
from recsys.errors import ModelFolderError
from recsys.vectors.embeddings.hashing import HashArray, row_hashes, table_hash
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.index import faiss_factory, update
from recsys.vectors.index.build import VectorIndex, check_finite, resolve_kind, tune_faiss_index
from recsys.vectors.index.faiss_index import FaissIndex
from recsys.vectors.index.flat import BRUTE_FORCE_QUERIES, FlatIndex
from recsys.vectors.index.recall import IndexMetrics, RecallBenchmark
from recsys.vectors.index.update import IndexDelta

logger = logging.getLogger(__name__)

_NAME: Final = "index"


@dataclass(frozen=True)
class IndexHandle:
    """An open index and its metrics.

    Attributes:
        index: the index.
        metrics: its recall and latency when it was last built or updated; None for an exact one that was not measured.
        build_reason: reason it was built now; None = it was not.
        delta: the update applied now; None = none.
        is_first: whether there was no saved index before.
    """

    index: VectorIndex
    metrics: IndexMetrics | None = None
    build_reason: str | None = None
    delta: IndexDelta | None = None
    is_first: bool = False

    @property
    def recall(self) -> float:
        """Share of the true ten nearest neighbours found, lowest over the kinds of query."""
        return 1.0 if self.metrics is None else self.metrics.min_recall

    @property
    def status(self) -> str:
        """Short description of what was done."""
        if self.build_reason is not None:
            return f"{'built' if self.is_first else 'rebuilt'}: {self.build_reason}"
        return "unchanged" if self.delta is None else f"updated: {self.delta}"


def open_index(
    table: EmbeddingTable,
    settings: IndexSettings,
    *,
    folder: Path,
    seed: int = 0,
    force_rebuild: bool = False,
    measure: bool = False,
    queries: int | None = None,
) -> IndexHandle:
    """Open the index of a table: load and update the saved one, or build a new one.

    An index that was built or updated is measured and saved.

    Args:
        table: n products.
        settings: kind, device, and limits of an update in place.
        folder: folder of the cache.
        seed: as in `build.build_index`.
        force_rebuild: rebuild in any case.
        measure: measure and save the metrics also where nothing is built, as for exact search.
        queries: number of expected queries, if known: for a few, `auto` loads no index and scans.

    Raises:
        UsageError: a vector is not finite.
        ConfigError: a GPU is requested, and there is none.
    """
    kind = resolve_kind(settings.kind, len(table))
    few = settings.kind == "auto" and queries is not None and queries <= BRUTE_FORCE_QUERIES
    if not (force_rebuild or measure) and (kind == "flat" or few):
        return IndexHandle(FlatIndex(table.vectors, settings.device))  # the vectors are the index
    index_cache = _IndexCache(table, settings, kind, folder, seed)
    reason, first = "asked for", not (folder / f"{_NAME}.json").exists()
    if not force_rebuild:
        try:
            return index_cache.update_saved(file_set.read_file_set(folder, _NAME, index_cache.read))
        except FileNotFoundError:
            reason = "none was saved"
        except ModelFolderError as error:
            reason = str(error)
        expected = measure and (first or kind == "flat")  # the caller reports the build itself
        level = logging.INFO if expected else logging.WARNING
        logger.log(level, "building the %s index of %d vectors: %s", kind, len(table), reason)
    return index_cache.build(reason, first=first)


@dataclass(frozen=True)
class _IndexHistory:
    """Training parameters and update history of an approximate index.

    Attributes:
        effort: see `FaissIndex`.
        width: see `FaissIndex`.
        trained: products it was trained on.
        moved: products added, removed or changed since.
        best: its recall when it was trained.
    """

    effort: int
    width: int
    trained: int
    moved: int
    best: float

    @staticmethod
    def from_metadata(facts: file_set.Facts) -> _IndexHistory:
        """Rebuild a history from the metadata of a file set."""
        effort, width, trained, moved = (int(facts[name]) for name in ("effort", "width", "trained", "moved"))
        return _IndexHistory(effort, width, trained, moved, float(facts["best"]))


@dataclass(frozen=True)
class _CachedIndex:
    """Content of the folder: metrics, and for an approximate index the FAISS index and its history.

    `previous_rows` are its ids and digests where they differ from the table's.
    """

    measured: IndexMetrics
    engine: Any = None
    history: _IndexHistory | None = None
    previous_rows: tuple[list[str], HashArray] | None = None


class _IndexCache:
    """Reads, updates, builds and saves the index of one table."""

    def __init__(self, table: EmbeddingTable, settings: IndexSettings, kind: str, folder: Path, seed: int) -> None:
        self.table, self.settings, self.kind, self.folder, self.seed = table, settings, kind, folder, seed
        self.digests = row_hashes(table.vectors)
        self.state = table_hash(table.ids.texts, self.digests)

    def cache_key(self) -> dict[str, Any]:
        """Return the parameters of an index file besides its rows; any difference invalidates it."""
        faiss_version = None
        if self.kind != "flat":
            import faiss

            faiss_version = faiss.__version__
        parameters = {"kind": self.kind, "seed": self.seed, "dim": self.table.dim, "faiss": faiss_version}
        return {**parameters, "recipe": faiss_factory.FORMAT_VERSION}

    def read(self, facts: file_set.Facts, paths: dict[str, Path]) -> _CachedIndex:
        """Load the saved index.

        Raises:
            ModelFolderError: it does not match, or cannot be read.
        """
        differing = sorted(name for name, value in self.cache_key().items() if facts.get(name) != value)
        if differing:
            raise ModelFolderError(f"the saved index differs in {', '.join(differing)}")
        try:
            same = facts["state"] == self.state
            measured = IndexMetrics.from_dict(facts["measured"])
            if self.kind == "flat" and not same:
                raise ModelFolderError("the vectors changed since they were measured")
            if self.kind == "flat":
                return _CachedIndex(measured)
            import faiss

            history = _IndexHistory.from_metadata(facts)
            engine = faiss.read_index(str(paths["engine.faiss"]))
            previous_rows = None if same else update.read_rows(paths["products.parquet"])
            n = len(self.table) if previous_rows is None else len(previous_rows[0])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelFolderError(f"the saved index cannot be read ({type(error).__name__}: {error})") from error
        if engine.d != self.table.dim or engine.ntotal < n:
            raise ModelFolderError("the saved index does not match its manifest")
        return _CachedIndex(measured, engine, history, previous_rows)

    def update_saved(self, saved: _CachedIndex) -> IndexHandle:
        """Return the saved index unchanged, or updated to the current table.

        Raises:
            ModelFolderError: the update exceeds a limit of the settings.
        """
        vectors, device = self.table.vectors, self.settings.device
        history = saved.history
        if history is None:
            return IndexHandle(FlatIndex(vectors, device), saved.measured)
        faiss_index = FaissIndex(vectors, self.kind, saved.engine, history.effort, history.width, device)
        if saved.previous_rows is None:
            return IndexHandle(faiss_index, saved.measured)
        delta = IndexDelta.from_digests(
            self.table.ids, self.digests, old_ids=saved.previous_rows[0], old_digests=saved.previous_rows[1]
        )
        reason = update.rebuild_reason(delta, saved.engine, self.settings, trained=history.trained, moved=history.moved)
        if reason is not None:
            raise ModelFolderError(reason)
        check_finite(vectors, delta.rows_to_add)
        update.apply_delta(saved.engine, delta, vectors)
        measured = RecallBenchmark.from_vectors(vectors, seed=self.seed).measure(faiss_index)
        if history.best - measured.min_recall > self.settings.max_recall_loss:
            raise ModelFolderError(
                f"its recall fell from {history.best:.4f} to {measured.min_recall:.4f}, by more than [index] "
                f"max_recall_loss = {self.settings.max_recall_loss}"
            )
        self._save(faiss_index, measured, replace(history, moved=history.moved + delta.size))
        return IndexHandle(faiss_index, measured, delta=delta)

    def build(self, reason: str, *, first: bool) -> IndexHandle:
        """Build, measure and save a new index."""
        vectors, device = self.table.vectors, self.settings.device
        check_finite(vectors, np.arange(len(vectors)))
        if not len(vectors):
            return IndexHandle(FlatIndex(vectors, device), build_reason=reason, is_first=first)
        benchmark = RecallBenchmark.from_vectors(vectors, seed=self.seed)
        if self.kind == "flat":
            exact = FlatIndex(vectors, device)
            measured = benchmark.measure(exact)
            self._save(exact, measured, None)
            return IndexHandle(exact, measured, build_reason=reason, is_first=first)
        faiss_index = tune_faiss_index(vectors, self.kind, benchmark, seed=self.seed, device=device)
        measured = benchmark.measure(faiss_index)
        self._save(
            faiss_index,
            measured,
            _IndexHistory(faiss_index.effort, faiss_index.width, len(vectors), 0, measured.min_recall),
        )
        return IndexHandle(faiss_index, measured, build_reason=reason, is_first=first)

    def _save(self, index: VectorIndex, measured: IndexMetrics, history: _IndexHistory | None) -> None:
        """Write the index and its metrics to the folder."""
        facts = {**self.cache_key(), "state": self.state, "products": len(self.table), "measured": measured.to_dict()}
        parts: dict[str, Callable[[Path], None]] = {}
        if isinstance(index, FaissIndex) and history is not None:
            facts |= asdict(history)
            write_rows = partial(update.write_rows, self.table.ids, self.digests)
            parts = {"engine.faiss": index.save, "products.parquet": write_rows}
        file_set.write_file_set(self.folder, _NAME, parts=parts, metadata=facts)
