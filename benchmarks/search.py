"""How well and how fast the vector index finds: every kind of ours beside raw FAISS with the same parameters.

In: vectors, or how many to make. Out: a table; with --json one line of JSON at the end.

    python benchmarks/search.py
    python benchmarks/search.py --vectors FILE.npy --kinds flat,ivf,hnsw,pq
    python benchmarks/search.py --embeddings FOLDER

For each kind: seconds of building (ours with raising the effort, measuring and saving; FAISS' own part of it), the
file's size, recall@10 of products and of points between two, queries a second all at once and one by one. Then filters
that let half to one of 2,000 products through, beside FAISS' own selector and beside filtering what was found. Then one
in a hundred products changed: seconds, and recall, of the index brought up to date and of one built anew.

Ours and FAISS take turns; figures are medians of the rounds. FAISS searches the very index of ours; for `pq` it is
FAISS' own refinement by whole vectors, and for `flat` its exact index.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import search_data
from telling import machine, say

from recsys.config import IndexSettings
from recsys.vectors.index import cache as saved
from recsys.vectors.index import faiss_factory as engines
from recsys.vectors.index import faiss_index as approximate
from recsys.vectors.index import recall as yardstick
from recsys.vectors.index.build import KINDS, VectorIndex
from recsys.vectors.index.faiss_index import FaissIndex
from recsys.vectors.index.flat import FlatIndex

OURS, RAW = "recsys", "FAISS"
SELECTOR, AFTER = "FAISS with selector", "FAISS, filtered after"
SHARES = {"50 %": 0.5, "5 %": 0.05, "0.5 %": 0.005, "0.05 %": 0.0005}
K = yardstick.K
GRAPH_UP_TO = 200_000
"""Products up to which a graph is built without being asked for: one thread fills it, for its links to be the same."""

MOST_AFTER = 2000
Search = Callable[[np.ndarray], np.ndarray]
Row = dict[str, Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--vectors", type=Path, help=".npy, or .parquet with a list column")
    source.add_argument("--embeddings", type=Path, help="folder of embeddings that recsys made")
    parser.add_argument("--products", type=int, default=1_000_000, help="vectors to make where none are given")
    parser.add_argument("--length", type=int, default=128, help="of the vectors to make")
    parser.add_argument("--kinds", help=f"of {', '.join(KINDS)}; hnsw above {GRAPH_UP_TO:,} products only when named")
    parser.add_argument("--rounds", type=int, default=5, help="turns that are measured")
    parser.add_argument("--singles", type=int, default=100, help="queries asked one by one in a turn")
    parser.add_argument("--changed", type=float, default=0.01, help="share of the products that change")
    parser.add_argument("--threads", type=int, default=faiss.omp_get_max_threads(), help="for everybody alike")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["recsys"], help="leave out raw FAISS")
    parser.add_argument("--quick", action="store_true", help="3,000 products, two rounds")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    asked = parser.parse_args()
    if asked.quick:
        asked.products, asked.length, asked.rounds, asked.singles = 3000, 16, 2, 20
    return asked


def raw_search(index: VectorIndex, vectors: np.ndarray) -> Search:
    """FAISS doing the same: rows of the K nearest."""
    if not isinstance(index, FaissIndex):
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        return lambda queries: flat.search(queries, K)[1]
    engine, parameters = index.engine, approximate.default_search_params(index.kind, index.effort)
    if index.kind != "pq":
        return lambda queries: engine.search(queries, K, params=parameters)[1]
    refined = faiss.IndexRefineFlat(engine, faiss.swig_ptr(vectors))
    both = faiss.IndexRefineSearchParameters(k_factor=index.width, base_index_params=parameters)
    return lambda queries: refined.search(queries, K, params=both)[1]


def filtered_searches(index: VectorIndex, vectors: np.ndarray, allow: np.ndarray) -> dict[str, Search]:
    """Ways to search among some of the products; each starts from the mask, as ours does."""
    ways: dict[str, Search] = {OURS: lambda queries: index.search(queries, K, allow=allow)[1]}
    if not isinstance(index, FaissIndex):
        return ways
    engine, kind, effort = index.engine, index.kind, index.effort
    width = K * index.width
    most = min(len(vectors), MOST_AFTER, max(width, round(1.5 * width / allow.mean())))

    def best(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        scores = np.einsum("qfd,qd->qf", vectors[rows], queries)
        scores[(rows < 0) | ~allow[rows]] = -np.inf
        order = np.argsort(-scores, axis=1)[:, :K]
        return np.where(np.isfinite(np.take_along_axis(scores, order, 1)), np.take_along_axis(rows, order, 1), -1)

    def selector(queries: np.ndarray) -> np.ndarray:
        among = approximate.search_params(kind, effort, approximate.mask_selector(allow))
        found = engine.search(queries, width, params=among)[1]
        return best(queries, found) if kind == "pq" else found

    def after(queries: np.ndarray) -> np.ndarray:
        return best(queries, engine.search(queries, most, params=approximate.default_search_params(kind, effort))[1])

    return ways | {SELECTOR: selector, AFTER: after}


def share_found(rows: np.ndarray, truth: np.ndarray, queries: np.ndarray, vectors: np.ndarray) -> float:
    """Recall of rows (q, K) beside the true scores (q, K), by their own scores: ties are no misses."""
    scores = np.einsum("qfd,qd->qf", vectors[rows].astype(np.float64), queries.astype(np.float64)).astype(np.float32)
    scores[rows < 0] = -np.inf
    return yardstick.recall_at_k(scores, truth)


class Turns:
    """Systems that take turns at the same queries."""

    def __init__(self, ways: dict[str, Search], queries: np.ndarray, asked: argparse.Namespace) -> None:
        self.together: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        self.singles: dict[str, list[float]] = {name: [] for name in ways}
        self.alone: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        self.rows = {name: search(queries) for name, search in ways.items()}
        self.queries = len(queries), min(asked.singles, len(queries))
        for turn in range(asked.rounds):
            for name, search in list(ways.items())[:: 1 if turn % 2 else -1]:
                self.together[name].append(_clocked(lambda search=search: search(queries)))
                whole = time.perf_counter(), time.process_time()
                for at in range(self.queries[1]):
                    started = time.perf_counter()
                    search(queries[at : at + 1])
                    self.singles[name].append(1000 * (time.perf_counter() - started))
                self.alone[name].append((time.perf_counter() - whole[0], time.process_time() - whole[1]))

    def figures(self, name: str) -> dict[str, tuple[float, float, float]]:
        """Metrics of a system with the least and the most of the rounds."""
        single = np.array(self.singles[name]).reshape(len(self.alone[name]), -1)
        return {
            "queries_per_s": _spread(self.queries[0] / np.array(self.together[name])[:, 0]),
            "single_queries_per_s": _spread(self.queries[1] / np.array(self.alone[name])[:, 0]),
            "single_median_ms": _spread(np.median(single, axis=1)),
            "single_p95_ms": _spread(np.percentile(single, 95, axis=1)),
        }

    def ratios(self, label: str) -> dict[str, float]:
        """FAISS' time as a share of ours, round by round: 1 = no overhead, above 0.91 = less than 10 %."""
        out = {}
        for what, spent in (("all at once", self.together), ("one by one", self.alone)):
            pairs = np.array(spent[RAW]) / np.array(spent[OURS])
            for clock, values in zip(("", ", processor's time"), pairs.T, strict=True):
                out[f"speed recsys / FAISS, {label}, {what}{clock}"] = round(float(np.median(values)), 3)
        return out


def _clocked(work: Callable[[], Any]) -> tuple[float, float]:
    started, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, max(time.process_time() - spent, 1e-9)


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    low, value, high = (float(f"{each:.5g}") for each in (values.min(), np.median(values), values.max()))
    return value, low, high


class Measuring:
    """One run over one table, kind by kind."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self.asked, self.folder = asked, folder
        path = asked.vectors or asked.embeddings
        vectors = search_data.read(path) if path else search_data.made(asked.products, asked.length, seed=asked.seed)
        self.before = search_data.table(vectors)
        self.table = search_data.later(self.before, asked.changed, seed=asked.seed)
        self.vectors = self.table.vectors
        every = "flat,ivf,hnsw,pq" if len(self.table) <= GRAPH_UP_TO else "flat,ivf,pq"
        self.kinds = (asked.kinds or every).split(",")
        self.queries = yardstick.sample_queries(self.vectors, asked.seed + 1)  # not those the effort was chosen by
        say(f"{len(self.table):,} vectors of length {self.table.dim}; the true neighbours")
        self.exact = FlatIndex(self.vectors)
        self.truth = {name: self.exact.search(queries, K)[0] for name, queries in self.queries.items()}
        self.every = np.concatenate(list(self.queries.values()))
        self.masks = {name: search_data.mask(len(self.table), share, seed=asked.seed) for name, share in SHARES.items()}
        half = self.every[::4]
        self.filtered = {name: self.exact.search(half, K, allow=allow)[0] for name, allow in self.masks.items()}
        self.some = half
        self.rows: list[Row] = []
        self.ratios: dict[str, float] = {}
        self.facts: dict[str, Any] = {"products": len(self.table), "length": self.table.dim}

    def note(self, system: str, label: str, **metrics: Any) -> None:
        for metric, value in metrics.items():
            value, low, high = value if isinstance(value, tuple) else (float(f"{value:.5g}"),) * 3
            shown = {"system": system, "metric": metric.replace("_at_", "@"), "value": value, "low": low, "high": high}
            self.rows.append({**shown, "slice": label})

    def kind(self, kind: str) -> None:
        settings = IndexSettings(kind=kind, device="cpu")
        folder = self.folder / kind
        say(f"{kind}: built, and changed")
        if kind != "flat":
            older = self.opened(self.before, settings, folder, fresh=True)[0]
            updated, seconds, _ = self.opened(self.table, settings, folder, fresh=False)
            self.note(OURS, f"{kind}, before the change", recall_at_10=self.least(older.index, self.before.vectors))
            self.note(OURS, f"{kind}, brought up to date", update_s=seconds, recall_at_10=self.least(updated.index))
            self.facts[f"{kind} update"] = updated.status
        opened, whole, inner = self.opened(self.table, settings, folder, fresh=True)
        index = opened.index
        self.note(OURS, kind, build_s=whole, file_mb=sum(path.stat().st_size for path in folder.iterdir()) / 1e6)
        if kind != "flat":
            rebuilt = self.least(index)
            self.note(OURS, f"{kind}, built anew", build_s=whole, recall_at_10=rebuilt)
            self.ratios[f"rebuild / update, {kind}"] = round(whole / seconds, 2)
            self.facts[f"{kind} effort"] = index.effort, index.width  # type: ignore[attr-defined]
            if not self.asked.only:
                self.note(RAW, kind, build_s=inner)
        say(f"{kind}: {'searched' if self.asked.only else 'beside FAISS'}")
        ways: dict[str, Search] = {OURS: lambda queries: index.search(queries, K)[1]}
        if not self.asked.only:
            ways[RAW] = raw_search(index, self.vectors)
        self.turns(kind, ways)
        if kind != "flat":
            say(f"{kind}: filters")
            self.filters(kind, index)

    def opened(
        self, table: Any, settings: IndexSettings, folder: Path, *, fresh: bool
    ) -> tuple[saved.IndexHandle, float, float]:
        """An index, the seconds it took, and those of them that FAISS took to train and fill it."""
        inner, made = [0.0], engines.create_faiss_index

        def timed(*args: Any, **named: Any) -> Any:
            started = time.perf_counter()
            engine = made(*args, **named)
            inner.append(time.perf_counter() - started)
            return engine

        engines.create_faiss_index = timed
        try:
            started = time.perf_counter()
            opened = saved.open_index(
                table, settings, folder=folder, seed=self.asked.seed, force_rebuild=fresh, measure=True
            )
            return opened, time.perf_counter() - started, sum(inner)
        finally:
            engines.create_faiss_index = made

    def least(self, index: VectorIndex, vectors: np.ndarray | None = None) -> float:
        """Recall of the kind of queries it is less for, over these vectors or the later ones."""
        found = {name: index.search(asked, K)[0] for name, asked in self.queries.items()}
        exact = None if vectors is None else FlatIndex(vectors)
        truth = self.truth if exact is None else {name: exact.search(self.queries[name], K)[0] for name in found}
        return min(yardstick.recall_at_k(found[name], truth[name]) for name in found)

    def turns(self, kind: str, ways: dict[str, Search]) -> None:
        turns = Turns(ways, self.every, self.asked)
        truth = np.concatenate(list(self.truth.values()))
        for name in ways:
            found = share_found(turns.rows[name], truth, self.every, self.vectors)
            self.note(name, kind, recall_at_10=found, **turns.figures(name))
        if RAW in ways:
            self.ratios |= turns.ratios(kind)

    def filters(self, kind: str, index: VectorIndex) -> None:
        for label, allow in self.masks.items():
            ways = filtered_searches(index, self.vectors, allow)
            if self.asked.only:
                ways = {OURS: ways[OURS]}
            turns = Turns(ways, self.some, self.asked)
            wanted = min(K, int(allow.sum()))
            for name in ways:
                found = share_found(turns.rows[name], self.filtered[label], self.some, self.vectors)
                filled = float((turns.rows[name] >= 0).sum(axis=1).mean() / wanted)
                self.note(name, f"{kind}, {label}", recall_at_10=found, filled=filled, **turns.figures(name))


def main() -> int:
    asked = arguments()
    faiss.omp_set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as temporary:
        measuring = Measuring(asked, Path(temporary))
        for kind in measuring.kinds:
            measuring.kind(kind)
    for row in measuring.rows:
        label = f"{row['slice']}: {row['metric']}"
        print(f"{row['system']:22s} {label:44s} {row['value']:12,.6g} [{row['low']:,.6g}, {row['high']:,.6g}]")
    for name, ratio in measuring.ratios.items():
        print(f"{name}: {ratio}")
    if asked.json:
        shown = {"benchmark": "search", "quick": asked.quick, "rows": measuring.rows, "ratios": measuring.ratios}
        print(json.dumps({**shown, "facts": {**measuring.facts, "threads": asked.threads}, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
