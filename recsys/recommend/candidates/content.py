"""What looks and reads like the user's last products: neighbours in the encoder's space and by their words.

In: content vectors and the words of each product. Out: Candidates, each with the product it resembles.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recsys.recommend.candidates.item_knn import (
    build_user_profile,
    empty_neighbours,
    iter_common_users,
    retrieve_neighbours,
)
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.topk.approximate import ApproximateScorer
from recsys.vectors.topk.scorer import ExactScorer, dense_top_k

_ROUNDING = 1e-6
"""What is left of a product's own words when they are taken out of a sum."""

_CELLS = 1 << 22
"""Cells of a table over users and words: some that fit a processor's cache."""

_ENTRIES = 1 << 15
"""Words of products looked at at once; they stay in the cache next to the core."""

_SAMPLE = 512
"""Products the recall of an approximate search is measured on."""


class ContentSource:
    """Neighbours of a user's last products, each product's proposals summed with less weight the longer ago.

    A dense vector blurs names; a bag of words knows no synonyms and no picture. The similarity is the sum of both
    cosines (an ensemble of scores; arXiv 2512.17820), each cut at 0.
    """

    name = "content"

    def __init__(
        self,
        content: FloatArray,
        words: sparse.csr_matrix,
        *,
        touched: IntArray,
        sellable: BoolArray | None = None,
        word_share: float = 0.5,
        neighbours: int = 100,
        last: int = 10,
        decay: float = 0.8,
        recall: float | None = None,
    ) -> None:
        """Search the neighbours of all products in `touched`.

        Args:
            content: (n, d) unit vectors of the encoder.
            words: (n, w) TF-IDF rows (`recommend.words`).
            touched: product rows that histories hold, any order; others are searched for when they come.
            sellable: (n,) what may be proposed.
            word_share: weight of the words' cosine, the vectors' has the rest.
            neighbours: searched of each product, by vectors and by words.
            last: products of a user looked at.
            decay: weight of each further product back.
            recall: share of the neighbours by vectors that must be found; None = all, by exact search.
        """
        self.vectors, self.words, self.sellable = content, words, sellable
        self.word_share, self.neighbours, self.last, self.decay = word_share, neighbours, last, decay
        # Words that every tenth product has tell little and cost most: the search goes without, the similarity with.
        within = np.bincount(words.indices, minlength=words.shape[1])
        self._rare = words[:, within <= max(10, len(content) // 10)]
        self._across = self._rare.T.tocsr()
        self._worded = (np.diff(words.indptr) > 0).astype(np.float32)  # a row without words is no unit vector
        known = np.unique(touched)
        self._scorer: ExactScorer | ApproximateScorer = ExactScorer(content, allowed=sellable)
        if recall is not None:
            sample = content[known[np.linspace(0, len(known) - 1, min(len(known), _SAMPLE)).astype(np.int64)]]
            self._scorer = ApproximateScorer(content, sample, neighbours + 1, recall=recall, allowed=sellable)
        # Searched once for all products somebody touched, so that a list does not depend on who is asked for with it.
        self._searched = np.zeros(len(content), np.bool_)
        self._near = self._neighbours(known)
        self._searched[touched] = True

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        signs = build_user_profile(users.histories, last=self.last, decay=self.decay)
        if not len(signs.item):
            return Candidates.empty()
        items = np.unique(signs.item)
        unknown = items[~self._searched[items]]
        near = self._near if not len(unknown) else self._near + self._neighbours(unknown)
        return retrieve_neighbours(signs, near.tocsr(), k)

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        signs = build_user_profile(users.histories, last=self.last, decay=self.decay)
        shape = (len(users), len(self.vectors))
        wanted = sparse.csr_matrix((signs.weight, (signs.user, signs.item)), shape=shape) @ self.words
        out, same = np.zeros(len(user), np.float32), np.zeros(len(user), np.float32)
        for _, own, pairs in iter_common_users(len(users), signs.user, user):
            liked, weight, items = signs.item[own], signs.weight[own], item[pairs]
            self_ = items[:, None] == liked[None, :]  # a product is no neighbour of itself
            near = np.maximum(self.vectors[items] @ self.vectors[liked].T, 0)
            near[self_] = 0
            out[pairs] = (1 - self.word_share) * (near @ weight)
            same[pairs] = self_ @ weight
        lexical = sparse_dot(wanted, self.words, user, item) - same * self._worded[item]
        lexical[lexical < _ROUNDING] = 0
        out += self.word_share * lexical
        return out

    def similarity(self, one: IntArray, other: IntArray, *, block: int = 200_000) -> FloatArray:
        """Similarity of m pairs of products: (m,) float32."""
        out = np.empty(len(one), np.float32)
        for start in range(0, len(one), block):
            a, b = one[start : start + block], other[start : start + block]
            dense = np.einsum("md,md->m", self.vectors[a], self.vectors[b])
            lexical = np.asarray(self.words[a].multiply(self.words[b]).sum(axis=1)).ravel()
            out[start : start + block] = (1 - self.word_share) * np.maximum(dense, 0) + self.word_share * lexical
        return out

    def _neighbours(self, items: IntArray) -> sparse.csr_matrix:
        """(n, n) float32 with rows only for `items`: similarity to the neighbours by vectors or by words."""
        n, k = len(self.vectors), self.neighbours
        if not len(items):
            return empty_neighbours(n)
        keys = []
        for start in range(0, len(items), 512):
            some = items[start : start + 512]
            _, by_vector = self._scorer.top_k(self.vectors[some], k + 1)
            shared = (self._rare[some] @ self._across).toarray()
            if self.sellable is not None:
                shared[:, ~self.sellable] = 0
            _, by_word = dense_top_k(np.where(shared > 0, shared, -np.inf), k + 1)
            other = np.concatenate([by_vector, by_word], axis=1)
            key = np.where((other >= 0) & (other != some[:, None]), some[:, None] * n + other, -1)
            keys.append(np.unique(key[key >= 0]))
        key = np.concatenate(keys)
        item, other = key // n, key % n
        value = self.similarity(item, other)
        kept = value > 0
        return sparse.csr_matrix((value[kept], (item[kept], other[kept])), shape=(n, n))


def sparse_dot(one: sparse.csr_matrix, other: sparse.csr_matrix, left: IntArray, right: IntArray) -> FloatArray:
    """Inner products of m pairs of sparse rows: (m,) float32.

    Args:
        one: (a, w) float32, few rows: some of them are laid out in full at a time.
        other: (c, w) float32.
        left: (m,) rows of `one`, ascending.
        right: (m,) rows of `other`.
    """
    out = np.zeros(len(left), np.float32)
    begins, lengths = other.indptr[:-1], np.diff(other.indptr).astype(np.int64)
    size = lengths[right]
    ends = np.cumsum(size)
    step = max(1, _CELLS // max(1, one.shape[1]))
    for first in range(0, one.shape[0], step):
        start, stop = np.searchsorted(left, (first, first + step)).tolist()
        full = one[first : first + step].toarray().ravel()
        while start < stop:
            before = int(ends[start] - size[start])
            last = max(start + 1, min(stop, int(np.searchsorted(ends, before + _ENTRIES))))
            some = np.arange(start, last)[size[start:last] > 0]
            if len(some):
                lies = ends[some] - size[some] - before
                entry = np.arange(ends[some[-1]] - before) + np.repeat(begins[right[some]] - lies, size[some])
                cell = np.repeat((left[some] - first) * one.shape[1], size[some]) + other.indices[entry]
                out[some] = np.add.reduceat(full[cell] * other.data[entry], lies)
            start = last
    return out
