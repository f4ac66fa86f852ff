"""Approximate scoring: each query looks only at the groups of items that point its way, as many as the recall asks for.

In: items (n, d), a sample of the queries to come, the recall wanted. Out: what `ExactScorer` gives, most of it.

An inverted file (Jegou et al. 2011) searched for thousands of queries at once: group by group, all queries that look
into it are multiplied with it in one product, which a processor does much faster than a search query by query.
"""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import torch

from recsys.errors import UsageError
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.clustering.kmeans import kmeans_fit_subset
from recsys.vectors.topk import rescore as topk_exact
from recsys.vectors.topk.exclusions import Exclusions
from recsys.vectors.topk.low_precision import LowPrecisionItems, supports_bf16
from recsys.vectors.topk.scorer import ExactScorer, check_finite, select_threshold_filter
from recsys.vectors.topk.threads import run_in_threads
from recsys.vectors.topk.threshold import STRIDE

logger = logging.getLogger(__name__)

_SIZE, _MOST = 256, 2048
"""Items of a group, and groups at most."""

_QUERIES = 4096
"""Queries a thread does at once, so that each group has many."""


class ApproximateScorer:
    """Items in groups. `recall` is what was measured on the sample, `effort` the groups a query looks into."""

    def __init__(
        self,
        items: FloatArray,
        sample: FloatArray,
        k: int,
        *,
        recall: float = 0.99,
        allowed: BoolArray | None = None,
        seed: int = 0,
        device: str = "cpu",
        sieve: str = "auto",
    ) -> None:
        """Group the items, and raise the effort until the sample's lists hold the recall asked for.

        Args:
            items: (n, d).
            sample: (s, d) queries like those to come.
            k: length of the lists the recall is measured on.
            recall: share of the true k best that must be found, on average.
            allowed: (n,) bool, items that may be returned; default all.
            seed: of the groups.
            device: where the rough products are taken.
            sieve: as for `ExactScorer`.

        Raises:
            UsageError: a vector is not finite, or recall is not above 0 and up to 1.
        """
        if not 0 < recall <= 1:
            raise UsageError(f"recall is {recall}; it must be above 0 and at most 1")
        self.exact = ExactScorer(items, allowed=allowed, device=device, sieve=sieve)
        self.items, self.device, self._sieve, self._looked = items, self.exact.device, sieve, 0
        known = self.exact.rows
        lengths = np.linalg.norm(items, axis=1, keepdims=True)
        unit = np.divide(items, lengths, out=np.zeros_like(items), where=lengths > 0)
        group = kmeans_fit_subset(unit, seed=seed, among=known, number=min(_MOST, max(1, len(known) // _SIZE)))[known]
        order = np.argsort(group, kind="stable")
        ends = np.cumsum(np.bincount(group)) if len(known) else np.zeros(0, np.int64)
        self.bounds = np.concatenate([[0], ends]).astype(np.int64)
        sums = np.add.reduceat(unit[known[order]].astype(np.float64), self.bounds[:-1], axis=0) if len(known) else unit
        self.middles = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        dtype = torch.bfloat16 if supports_bf16(self.device) else torch.float32
        self.rough = LowPrecisionItems(items, known[order], self.bounds, dtype=dtype, device=self.device, kept=True)
        self.n_probe, self.recall = self._calibrated(check_finite(sample, "sample query"), k, recall)

    def top_k(
        self, queries: FloatArray, k: int, *, excluded: tuple[IntArray, IntArray] | None = None
    ) -> tuple[FloatArray, IntArray]:
        """As `ExactScorer.top_k`, with items missing that stand in groups not looked into; scores are true ones.

        Queries whose groups hold fewer than k items, and those the sieve gives up, are answered exactly.
        """
        queries = check_finite(queries, "query")
        b = len(queries)
        scores, rows = np.full((b, k), -np.inf, np.float32), np.full((b, k), -1, np.int64)
        seen = Exclusions(excluded, b)
        some = queries.any(axis=1) & (not self.rough.zero)
        todo = np.flatnonzero(some) if self.n_probe < len(self.middles) else np.zeros(0, np.int64)
        if len(todo) and k:
            self._looked += len(todo) * len(self.rough.order)
            kind = select_threshold_filter(self._sieve, self.device, work=self._looked)
            work = partial(self._block, kind, queries, seen, scores, rows)
            run_in_threads(work, todo, height=_QUERIES, device=self.device)
        left = np.flatnonzero((rows < 0).any(axis=1)) if k else np.zeros(0, np.int64)
        if len(left):
            scores[left], rows[left] = self.exact.top_k(queries[left], k, excluded=seen.only(left))
        return scores, rows

    def _calibrated(self, sample: FloatArray, k: int, recall: float) -> tuple[int, float]:
        """The lowest effort that finds enough, and what it finds; all groups are the exact answer."""
        most, self.n_probe = len(self.middles), 1
        if not len(sample) or not k or not most:
            return max(1, most), 1.0
        true = self.exact.top_k(sample, k)[1]
        while self.n_probe < most:
            rows = self.top_k(sample, k)[1]
            hits = sum(len(np.intersect1d(a[a >= 0], b)) for a, b in zip(true, rows, strict=True))
            found = hits / max(1, int((true >= 0).sum()))
            if found >= recall:
                return self.n_probe, found
            self.n_probe = max(self.n_probe + 1, round(self.n_probe * 1.2))
        logger.warning("no part of the items gives a recall of %g: every item is looked at, as without it", recall)
        return most, 1.0

    def _block(
        self, kind: type, queries: FloatArray, seen: Exclusions, scores: FloatArray, rows: IntArray, part: IntArray
    ) -> IntArray:
        k = scores.shape[1]
        own = np.ascontiguousarray(queries[part])
        asked, off = self.rough.queries(own)
        sieve = kind(off, k, dtype=self.rough.dtype, most=16 * k + 1024)
        near = own.astype(np.float64) @ self.middles.T
        at = len(self.middles) - self.n_probe
        group, user = np.nonzero((near >= np.partition(near, at, axis=1)[:, at : at + 1]).T)
        starts = np.searchsorted(group, np.arange(len(self.middles) + 1))
        barred = self._barred(seen, part, group * len(part) + user, starts)
        for one in np.flatnonzero(np.diff(starts)).tolist():
            who = torch.from_numpy(user[starts[one] : starts[one + 1]]).to(self.device)
            first, last = int(self.bounds[one]), int(self.bounds[one + 1])
            product = torch.empty((len(who), -(-(last - first) // STRIDE) * STRIDE), dtype=self.rough.dtype)
            product = product.to(self.device)
            product[:, last - first :] = -torch.inf
            torch.mm(asked[who], self.rough.block(one), out=product[:, : last - first])
            if one in barred:
                line, column = barred[one]
                product[torch.from_numpy(line).to(self.device), torch.from_numpy(column).to(self.device)] = -torch.inf
            sieve.add(product, first, who=who)
        user, place = (found.cpu().numpy() for found in sieve.candidates())
        row = self.rough.order[place]
        best, found = topk_exact.rank_per_query(
            topk_exact.exact_scores(own, self.items, user, row), user, row, b=len(part), k=k
        )
        proven = ~sieve.overflowed.cpu().numpy()
        scores[part[proven]], rows[part[proven]] = best[proven], found[proven]
        return part[:0]

    def _barred(
        self, seen: Exclusions, part: IntArray, looked: IntArray, starts: IntArray
    ) -> dict[int, tuple[IntArray, IntArray]]:
        """For groups with items that may not be returned: rows and columns of the product."""
        user, place = seen.places(part, self.rough)
        group = np.searchsorted(self.bounds, place, side="right") - 1
        wanted = group * len(part) + user
        line = np.searchsorted(looked, wanted)
        there = looked[np.minimum(line, len(looked) - 1)] == wanted
        group, line, place = group[there], line[there], place[there]
        order = np.argsort(group, kind="stable")
        group, line, place = group[order], line[order], place[order]
        line, column = line - starts[group], place - self.bounds[group]
        cuts = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
        pairs = zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        return {int(group[a]): (line[a:b], column[a:b]) for a, b in pairs}
