"""The saved index of a table: loaded, brought up to date, or built; its file is only a cache.

In: an embedding table, settings, a folder. Out: an index over exactly this table, how much it finds, and what was done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys.artifacts import file_set as sealed
from recsys.config import IndexSettings
from recsys.errors import ModelFolderError
from recsys.vectors.embeddings import hashing as digests
from recsys.vectors.embeddings.hashing import Digests
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.index import build as index
from recsys.vectors.index import faiss_factory as engines
from recsys.vectors.index import update as renewal
from recsys.vectors.index.build import VectorIndex
from recsys.vectors.index.faiss_index import FaissIndex
from recsys.vectors.index.flat import BRUTE_FORCE_QUERIES, FlatIndex
from recsys.vectors.index.recall import IndexMetrics, RecallBenchmark
from recsys.vectors.index.update import IndexDelta

logger = logging.getLogger(__name__)

_NAME: Final = "index"


@dataclass(frozen=True)
class IndexHandle:
    """An index ready to use.

    Attributes:
        index: the index.
        measured: its recall and speed when it was last built or changed; None for an exact one nobody measured.
        built: why it was built now; None = it was not.
        change: what was added, removed and changed in it now; None = nothing.
        first: whether there was none before.
    """

    index: VectorIndex
    measured: IndexMetrics | None = None
    built: str | None = None
    change: IndexDelta | None = None
    first: bool = False

    @property
    def recall(self) -> float:
        """Share of the true ten nearest neighbours it finds, for products or points between, whichever is less."""
        return 1.0 if self.measured is None else self.measured.min_recall

    @property
    def status(self) -> str:
        """What was done, in a few words."""
        if self.built is not None:
            return f"{'built' if self.first else 'rebuilt'}: {self.built}"
        return "unchanged" if self.change is None else f"updated: {self.change}"


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
    """The index of a table: the saved one, with what has changed in the table put in and out, else a new one.

    What was built or changed is measured and saved.

    Args:
        table: n products.
        settings: which kind, where, and when a change is too much to be made in place.
        folder: where the cache lies.
        seed: as in `index.build_index`.
        fresh: build it in any case.
        measure: measure and note it also where nothing is built, as for exact search.
        queries: how many there will be, when that is known: for a few, `auto` reads no index, it scans.

    Raises:
        UsageError: a vector is not finite.
        ConfigError: it is to be searched on a GPU, and there is none.
    """
    chosen = index.resolve_kind(settings.kind, len(table))
    few = settings.kind == "auto" and queries is not None and queries <= BRUTE_FORCE_QUERIES
    if not (force_rebuild or measure) and (chosen == "flat" or few):
        return IndexHandle(FlatIndex(table.vectors, settings.device))  # the vectors are the index
    keeper = _IndexCache(table, settings, chosen, folder, seed)
    why, first = "asked for", not (folder / f"{_NAME}.json").exists()
    if not force_rebuild:
        try:
            return keeper.brought_up_to_date(sealed.read_file_set(folder, _NAME, keeper.read))
        except FileNotFoundError:
            why = "none was saved"
        except ModelFolderError as error:
            why = str(error)
        told = measure and (first or chosen == "flat")  # by what is returned; nobody waits for it either
        level = logging.INFO if told else logging.WARNING
        logger.log(level, "building the %s index of %d vectors: %s", chosen, len(table), why)
    return keeper.built(why, first=first)


@dataclass(frozen=True)
class _IndexHistory:
    """What an approximate index has been through.

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
    def of(facts: sealed.Facts) -> _IndexHistory:
        effort, width, trained, moved = (int(facts[name]) for name in ("effort", "width", "trained", "moved"))
        return _IndexHistory(effort, width, trained, moved, float(facts["best"]))


@dataclass(frozen=True)
class _CachedIndex:
    """What lay in the folder: for an approximate index the FAISS part too, and its products where they differ."""

    measured: IndexMetrics
    engine: Any = None
    past: _IndexHistory | None = None
    older: tuple[list[str], Digests] | None = None


class _IndexCache:
    """Reads, changes, builds and saves the index of one table."""

    def __init__(self, table: EmbeddingTable, settings: IndexSettings, kind: str, folder: Path, seed: int) -> None:
        self.table, self.settings, self.kind, self.folder, self.seed = table, settings, kind, folder, seed
        self.digests = digests.row_hashes(table.vectors)
        self.state = digests.table_hash(table.ids.texts, self.digests)

    def key(self) -> dict[str, Any]:
        """What an index file depends on besides its rows; any difference makes it useless."""
        version = None
        if self.kind != "flat":
            import faiss

            version = faiss.__version__
        own = {"kind": self.kind, "seed": self.seed, "dim": self.table.dim, "faiss": version}
        return {**own, "recipe": engines.FORMAT_VERSION}

    def read(self, facts: sealed.Facts, paths: dict[str, Path]) -> _CachedIndex:
        """What was saved.

        Raises:
            ModelFolderError: it is of no use here.
        """
        other = sorted(name for name, value in self.key().items() if facts.get(name) != value)
        if other:
            raise ModelFolderError(f"the saved one differs in {', '.join(other)}")
        try:
            same = facts["state"] == self.state
            measured = IndexMetrics.of(facts["measured"])
            if self.kind == "flat" and not same:
                raise ModelFolderError("the vectors changed since they were measured")
            if self.kind == "flat":
                return _CachedIndex(measured)
            import faiss

            past = _IndexHistory.of(facts)
            engine = faiss.read_index(str(paths["engine.faiss"]))
            older = None if same else renewal.read_rows(paths["products.parquet"])
            n = len(self.table) if older is None else len(older[0])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelFolderError(f"the saved one cannot be read ({type(error).__name__}: {error})") from error
        if engine.d != self.table.dim or engine.ntotal < n:
            raise ModelFolderError("the saved one is of other vectors than its facts say")
        return _CachedIndex(measured, engine, past, older)

    def brought_up_to_date(self, saved: _CachedIndex) -> IndexHandle:
        """The saved index as it is, or after the change of the table.

        Raises:
            ModelFolderError: the change is too much for it.
        """
        vectors, device = self.table.vectors, self.settings.device
        past = saved.past
        if past is None:
            return IndexHandle(FlatIndex(vectors, device), saved.measured)
        found = FaissIndex(vectors, self.kind, saved.engine, past.effort, past.width, device)
        if saved.older is None:
            return IndexHandle(found, saved.measured)
        change = IndexDelta.between(self.table.ids, self.digests, old_ids=saved.older[0], old_digests=saved.older[1])
        why = renewal.rebuild_reason(change, saved.engine, self.settings, trained=past.trained, moved=past.moved)
        if why is not None:
            raise ModelFolderError(why)
        index.check_finite(vectors, change.fresh)
        renewal.apply_delta(saved.engine, change, vectors)
        measured = RecallBenchmark.of(vectors, seed=self.seed).measured(found)
        if past.best - measured.min_recall > self.settings.max_recall_loss:
            raise ModelFolderError(
                f"its recall fell from {past.best:.4f} to {measured.min_recall:.4f}, by more than [index] max_recall_loss = "
                f"{self.settings.max_recall_loss}"
            )
        self._save(found, measured, replace(past, moved=past.moved + change.size))
        return IndexHandle(found, measured, change=change)

    def built(self, why: str, *, first: bool) -> IndexHandle:
        """A new index, measured and saved."""
        vectors, device = self.table.vectors, self.settings.device
        index.check_finite(vectors, np.arange(len(vectors)))
        if not len(vectors):
            return IndexHandle(FlatIndex(vectors, device), built=why, first=first)
        stick = RecallBenchmark.of(vectors, seed=self.seed)
        if self.kind == "flat":
            exact = FlatIndex(vectors, device)
            measured = stick.measured(exact)
            self._save(exact, measured, None)
            return IndexHandle(exact, measured, built=why, first=first)
        made = index.tune_faiss_index(vectors, self.kind, stick, seed=self.seed, device=device)
        measured = stick.measured(made)
        self._save(made, measured, _IndexHistory(made.effort, made.width, len(vectors), 0, measured.min_recall))
        return IndexHandle(made, measured, built=why, first=first)

    def _save(self, made: VectorIndex, measured: IndexMetrics, past: _IndexHistory | None) -> None:
        facts = {**self.key(), "state": self.state, "products": len(self.table), "measured": measured.facts()}
        parts: dict[str, Callable[[Path], None]] = {}
        if isinstance(made, FaissIndex) and past is not None:
            facts |= asdict(past)
            note = partial(renewal.write_rows, self.table.ids, self.digests)
            parts = {"engine.faiss": made.save, "products.parquet": note}
        sealed.write_file_set(self.folder, _NAME, parts=parts, metadata=facts)
