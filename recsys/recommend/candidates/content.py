"""What looks and reads like the user's last products: neighbours in the encoder's space and by their words.

In: content vectors and the words of each product. Out: Candidates, each with the product it resembles.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.recommend.proposals import Candidates, UserBatch
from recsys.recommend.spread import gathered, spread, taste
from recsys.recommend.topk import top_k


class Content:
    """Neighbours of a user's last products, each product's proposals summed with less weight the longer ago.

    A dense vector blurs names; a bag of words knows no synonyms and no picture. The similarity is the sum of both
    cosines (an ensemble of scores; arXiv 2512.17820), each cut at 0.
    """

    name = "content"

    def __init__(
        self,
        content: npt.NDArray[np.float32],
        words: sparse.csr_matrix,
        *,
        sellable: npt.NDArray[np.bool_] | None = None,
        word_share: float = 0.5,
        neighbours: int = 100,
        last: int = 10,
        decay: float = 0.8,
    ) -> None:
        """Keep the vectors; neighbours are searched when asked for.

        Args:
            content: (n, d) unit vectors of the encoder.
            words: (n, w) TF-IDF rows (`recommend.words`).
            sellable: (n,) what may be proposed.
            word_share: weight of the words' cosine, the vectors' has the rest.
            neighbours: searched of each product, by vectors and by words.
            last: products of a user looked at.
            decay: weight of each further product back.
        """
        self.vectors, self.words, self.sellable = content, words, sellable
        self.word_share, self.neighbours, self.last, self.decay = word_share, neighbours, last, decay
        self._across = words.T.tocsr()

    def propose(self, users: UserBatch, k: int) -> Candidates:
        signs = taste(users.histories, last=self.last, decay=self.decay)
        if not len(signs.item):
            return Candidates.none()
        return spread(signs, self.near(np.unique(signs.item)), k)

    def near(self, items: npt.NDArray[np.int64]) -> sparse.csr_matrix:
        """(n, n) float32 with rows only for `items`: similarity to the neighbours by vectors or by words."""
        n = len(self.vectors)
        item, other = self._pairs(items)
        value = self.similarity(item, other)
        kept = (value > 0) & (item != other)
        return sparse.csr_matrix((value[kept], (item[kept], other[kept])), shape=(n, n))

    def similarity(
        self, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64], *, block: int = 200_000
    ) -> npt.NDArray[np.float32]:
        """Similarity of m pairs of products: (m,) float32."""
        out = np.empty(len(one), np.float32)
        for start in range(0, len(one), block):
            a, b = one[start : start + block], other[start : start + block]
            dense = np.einsum("md,md->m", self.vectors[a], self.vectors[b])
            lexical = np.asarray(self.words[a].multiply(self.words[b]).sum(axis=1)).ravel()
            out[start : start + block] = (1 - self.word_share) * np.maximum(dense, 0) + self.word_share * lexical
        return out

    def _pairs(self, items: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Each item with its neighbours by vectors and by words, every pair once."""
        n, k = len(self.vectors), self.neighbours
        _, near = top_k(self.vectors[items], self.vectors, k, allowed=self.sellable)
        item, other = np.repeat(items, k), near.ravel()
        parts = [(item[other >= 0], other[other >= 0])]
        for start in range(0, len(items), 512):
            some = items[start : start + 512]
            shared = (self.words[some] @ self._across).tocoo()
            allowed = shared.data > 0
            if self.sellable is not None:
                allowed &= self.sellable[shared.col]
            row, col = shared.row[allowed].astype(np.int64), shared.col[allowed].astype(np.int64)
            found = gathered(row, col, shared.data[allowed], col, k)
            parts.append((some[found.user], found.item))
        key = np.unique(np.concatenate([one * n + two for one, two in parts]))
        return key // n, key % n
