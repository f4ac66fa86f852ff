"""Candidate source `content`: products similar to the user's recent ones by encoder vector and by words.

In: content vectors and TF-IDF rows of the products. Out: Candidates; the source item is the user's similar product.
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

_ZERO_TOLERANCE = 1e-6
"""Rounding error that remains when a product's similarity to itself is subtracted from a sum."""

_MAX_DENSE_CELLS = 1 << 22
"""Cells of a dense users x words table; fits a processor's cache."""

_MAX_SPARSE_ENTRIES = 1 << 15
"""Sparse entries processed at once; they fit the cache of one core."""

_RECALL_SAMPLE_SIZE = 512
"""Products on which the recall of an approximate search is measured."""

_QUERY_BATCH_SIZE = 512
"""Products whose neighbours are searched at once."""


class ContentSource:
    """Neighbours of a user's recent products, summed with less weight for older products.

    A dense vector blurs names; a bag of words knows no synonyms and no image. The similarity is the weighted sum of
    both cosines (an ensemble of scores; arXiv 2512.17820), each clipped at 0.
    """

    name = "content"

    def __init__(
        self,
        content: FloatArray,
        tfidf: sparse.csr_matrix,
        *,
        history_items: IntArray,
        sellable: BoolArray | None = None,
        text_weight: float = 0.5,
        n_neighbours: int = 100,
        max_history: int = 10,
        decay: float = 0.8,
        recall: float | None = None,
    ) -> None:
        """Search the neighbours of all products in `history_items`.

        Args:
            content: (n, d) unit vectors of the encoder.
            tfidf: (n, w) TF-IDF rows (`data.tfidf.product_tfidf`).
            history_items: product rows that occur in histories, any order; others are searched when first queried.
            sellable: (n,) bool, products that may be retrieved.
            text_weight: weight of the TF-IDF cosine; the vectors' cosine has 1 - text_weight.
            n_neighbours: searched per product, by vectors and by words.
            max_history: most recent products of a user that are used.
            decay: factor on the weight for each further product back.
            recall: share of the vector neighbours that the search must find; None = exact search.
        """
        self.vectors, self.tfidf, self.sellable = content, tfidf, sellable
        self.text_weight, self.n_neighbours, self.max_history, self.decay = (
            text_weight,
            n_neighbours,
            max_history,
            decay,
        )
        # Words that over a tenth of the products have carry little information and cost most: the search leaves them
        # out, the similarity does not.
        n_products_per_word = np.bincount(tfidf.indices, minlength=tfidf.shape[1])
        self._rare_words = tfidf[:, n_products_per_word <= max(10, len(content) // 10)]
        self._rare_words_transposed = self._rare_words.T.tocsr()
        self._has_words = (np.diff(tfidf.indptr) > 0).astype(np.float32)  # a row without words is no unit vector
        items = np.unique(history_items)
        self._scorer: ExactScorer | ApproximateScorer = ExactScorer(content, allowed=sellable)
        if recall is not None:
            positions = np.linspace(0, len(items) - 1, min(len(items), _RECALL_SAMPLE_SIZE)).astype(np.int64)
            sample = content[items[positions]]
            self._scorer = ApproximateScorer(content, sample, n_neighbours + 1, recall=recall, allowed=sellable)
        # All products with events are searched once, so that a user's recommendations do not depend on the batch.
        self._is_searched = np.zeros(len(content), np.bool_)
        self._neighbour_matrix = self._find_neighbours(items)
        self._is_searched[history_items] = True

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        profile = build_user_profile(users.histories, max_items=self.max_history, decay=self.decay)
        if not len(profile.item):
            return Candidates.empty()
        items = np.unique(profile.item)
        missing = items[~self._is_searched[items]]
        neighbours = (
            self._neighbour_matrix if not len(missing) else self._neighbour_matrix + self._find_neighbours(missing)
        )
        return retrieve_neighbours(profile, neighbours.tocsr(), k)

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        profile = build_user_profile(users.histories, max_items=self.max_history, decay=self.decay)
        shape = (len(users), len(self.vectors))
        user_words = sparse.csr_matrix((profile.weight, (profile.user, profile.item)), shape=shape) @ self.tfidf
        out, self_weight = np.zeros(len(user), np.float32), np.zeros(len(user), np.float32)
        for _, profile_rows, pair_rows in iter_common_users(len(users), profile.user, user):
            profile_items, weight = profile.item[profile_rows], profile.weight[profile_rows]
            items = item[pair_rows]
            is_same = items[:, None] == profile_items[None, :]  # a product is no neighbour of itself
            cosine = np.maximum(self.vectors[items] @ self.vectors[profile_items].T, 0)
            cosine[is_same] = 0
            out[pair_rows] = (1 - self.text_weight) * (cosine @ weight)
            self_weight[pair_rows] = is_same @ weight
        lexical = sparse_dot(user_words, self.tfidf, user, item) - self_weight * self._has_words[item]
        lexical[lexical < _ZERO_TOLERANCE] = 0
        out += self.text_weight * lexical
        return out

    def similarity(self, left: IntArray, right: IntArray, *, block: int = 200_000) -> FloatArray:
        """Compute the similarity of m pairs of products, `block` pairs at a time: (m,) float32."""
        out = np.empty(len(left), np.float32)
        for start in range(0, len(left), block):
            a, b = left[start : start + block], right[start : start + block]
            dense = np.einsum("md,md->m", self.vectors[a], self.vectors[b])
            lexical = np.asarray(self.tfidf[a].multiply(self.tfidf[b]).sum(axis=1)).ravel()
            out[start : start + block] = (1 - self.text_weight) * np.maximum(dense, 0) + self.text_weight * lexical
        return out

    def _find_neighbours(self, items: IntArray) -> sparse.csr_matrix:
        """Return (n, n) float32 with rows only for `items`: similarity to their neighbours by vectors or by words."""
        n, k = len(self.vectors), self.n_neighbours
        if not len(items):
            return empty_neighbours(n)
        keys = []
        for start in range(0, len(items), _QUERY_BATCH_SIZE):
            queries = items[start : start + _QUERY_BATCH_SIZE]
            _, by_vector = self._scorer.top_k(self.vectors[queries], k + 1)
            word_scores = (self._rare_words[queries] @ self._rare_words_transposed).toarray()
            if self.sellable is not None:
                word_scores[:, ~self.sellable] = 0
            _, by_word = dense_top_k(np.where(word_scores > 0, word_scores, -np.inf), k + 1)
            neighbour = np.concatenate([by_vector, by_word], axis=1)
            is_valid = (neighbour >= 0) & (neighbour != queries[:, None])
            key = np.where(is_valid, queries[:, None] * n + neighbour, -1)
            keys.append(np.unique(key[key >= 0]))
        key = np.concatenate(keys)
        item, neighbour = key // n, key % n
        value = self.similarity(item, neighbour)
        positive = value > 0
        return sparse.csr_matrix((value[positive], (item[positive], neighbour[positive])), shape=(n, n))


def sparse_dot(
    left_matrix: sparse.csr_matrix, right_matrix: sparse.csr_matrix, left_row: IntArray, right_row: IntArray
) -> FloatArray:
    """Compute the inner products of m pairs of sparse rows: (m,) float32.

    Args:
        left_matrix: (a, w) float32, few rows: a block of them is made dense at a time.
        right_matrix: (c, w) float32.
        left_row: (m,) rows of `left_matrix`, ascending.
        right_row: (m,) rows of `right_matrix`.
    """
    out = np.zeros(len(left_row), np.float32)
    row_starts, row_lengths = right_matrix.indptr[:-1], np.diff(right_matrix.indptr).astype(np.int64)
    size = row_lengths[right_row]
    ends = np.cumsum(size)
    step = max(1, _MAX_DENSE_CELLS // max(1, left_matrix.shape[1]))
    for first_row in range(0, left_matrix.shape[0], step):
        start, stop = np.searchsorted(left_row, (first_row, first_row + step)).tolist()
        dense = left_matrix[first_row : first_row + step].toarray().ravel()
        while start < stop:
            n_before = int(ends[start] - size[start])
            chunk_stop = max(start + 1, min(stop, int(np.searchsorted(ends, n_before + _MAX_SPARSE_ENTRIES))))
            pairs = np.arange(start, chunk_stop)[size[start:chunk_stop] > 0]
            if len(pairs):
                offset = ends[pairs] - size[pairs] - n_before
                n_entries = ends[pairs[-1]] - n_before
                entry = np.arange(n_entries) + np.repeat(row_starts[right_row[pairs]] - offset, size[pairs])
                cell = (
                    np.repeat((left_row[pairs] - first_row) * left_matrix.shape[1], size[pairs])
                    + right_matrix.indices[entry]
                )
                out[pairs] = np.add.reduceat(dense[cell] * right_matrix.data[entry], offset)
            start = chunk_stop
    return out
