"""Bag-of-words encoder: a vector per exact word; their weighted sum is added to the product vector.

A dense encoder forgets rare words, but product names, codes and brands are rare words. At the start the sum is the
projection of TF-IDF on its leading directions (latent semantic analysis, Deerwester et al. 1990), which captures
co-occurrence, plus a random projection, which preserves all similarities (Johnson & Lindenstrauss); training then moves
the words. In: text columns and attribute values. Out: (b, d), and word ids for any text.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from recsys.encoder.modalities import Inputs

_N_HASH_BUCKETS: Final = 1024
FIRST_WORD_ID: Final = 1 + _N_HASH_BUCKETS
"""Id of the first word of the vocabulary; words are sorted by the number of products that have them."""
_MAX_VOCABULARY: Final = 40_000
_RANDOM_WEIGHT: Final = 0.6
"""Weight of the random projection."""
_RANK_TOLERANCE: Final = 1e-5
"""Directions with a smaller singular value, relative to the largest, are dropped."""
_LEARNING_RATE_SCALE: Final = 0.2
"""Learning rate of the words relative to other weights: their initial vectors are good and worth keeping."""
MAX_WORDS: Final = 64
"""Maximum number of distinct words per product; those with the largest weights are kept."""


class BagOfWordsEncoder(nn.Module):
    """A vector per word, weighted by its idf; id 0 is padding, unknown words share hashed vectors."""

    def __init__(self, vocabulary: Sequence[str], idf: Sequence[float], dim: int) -> None:
        super().__init__()
        self.vocabulary = list(vocabulary)
        self.idf = [float(value) for value in idf]
        self._ids = {word: i + FIRST_WORD_ID for i, word in enumerate(self.vocabulary)}
        self._hashed_rarity = max(self.idf, default=1.0)
        self.embedding = nn.Embedding(FIRST_WORD_ID + len(self.vocabulary), dim, padding_idx=0)
        self.embedding.weight.pace = _LEARNING_RATE_SCALE  # type: ignore[attr-defined]

    @staticmethod
    def fit(documents: Iterable[Iterable[str]], dim: int) -> BagOfWordsEncoder:
        """Fit the vocabulary, words of at least two documents, and their smoothed idf."""
        counts, n_documents = Counter[str](), 0
        for document in documents:
            counts.update(set(document))
            n_documents += 1
        vocabulary = sorted((word for word, n in counts.items() if n > 1), key=lambda word: (-counts[word], word))[
            :_MAX_VOCABULARY
        ]
        return BagOfWordsEncoder(
            vocabulary, [round(1 + math.log((1 + n_documents) / (1 + counts[word])), 4) for word in vocabulary], dim
        )

    def initialize_lsa(self, parts: Sequence[Inputs]) -> None:
        """Initialise the word vectors by latent semantic analysis; random numbers come from torch's generator.

        Args:
            parts: words and weights, see `padded`, of the same n products; the parts are added.
        """
        from sklearn.utils.extmath import randomized_svd  # a second of imports that no other process needs

        weight = self.embedding.weight
        with torch.no_grad():
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            weight[0] = 0
            seed = int(torch.randint(2**31, ()))
            tfidf = _to_sparse(parts, len(weight))
            if not tfidf.nnz:
                return
            norm = np.sqrt(np.asarray(tfidf.multiply(tfidf).sum(1)).ravel())
            tfidf = sparse.diags(1 / np.maximum(norm, 1e-6)) @ tfidf
            n_components = min(weight.shape[1], *tfidf.shape)
            _, singular_values, directions = randomized_svd(
                tfidf, n_components=n_components, n_iter=4, random_state=seed
            )
            directions = directions[singular_values > _RANK_TOLERANCE * singular_values[0]]
            weight.mul_(_RANDOM_WEIGHT)[:, : len(directions)] += torch.from_numpy(directions.T.astype(np.float32))
            weight[0] = 0

    def word_usage(self, parts: Sequence[Inputs]) -> Tensor:
        """Sum the weights of each word over products: one number per row of the embedding.

        Args:
            parts: words and weights, see `padded`, of the same products; the parts are added.
        """
        weight = self.embedding.weight
        return torch.from_numpy(_to_sparse(parts, len(weight)).sum(0)).to(weight.dtype)

    def align(self, usage: Tensor, word_ids: Sequence[int], targets: Tensor) -> None:
        """Rotate all word vectors so that the given words come as close as possible to target vectors.

        Distances between words are preserved (orthogonal Procrustes, Schönemann 1966; between the words of two
        languages, Smith et al. 2017).

        Args:
            usage: total weight of each word, see `usage`; words with a larger weight count more.
            word_ids: ids of m words; empty = no rotation.
            targets: (m, d) target vectors of these words.
        """
        if not len(word_ids):
            return
        weight, ids = self.embedding.weight, torch.as_tensor(word_ids, dtype=torch.long)
        with torch.no_grad():
            u, _, vh = torch.linalg.svd((weight[ids] * usage[ids][:, None]).T @ targets)
            weight.copy_(weight @ (u @ vh))

    def token_ids(self, words: Iterable[str]) -> dict[int, float]:
        """Return the id and weight of each distinct word: (1 + log count) * idf."""
        weights: dict[int, float] = {}
        for word, count in Counter(words).items():
            word_id = self._ids.get(word)
            if word_id is None:
                word_id, rarity = (
                    1 + zlib.crc32(word.encode("utf-8", "surrogatepass")) % _N_HASH_BUCKETS,
                    self._hashed_rarity,
                )
            else:
                rarity = self.idf[word_id - FIRST_WORD_ID]
            weights[word_id] = weights.get(word_id, 0.0) + (1 + math.log(count)) * rarity
        return weights

    @staticmethod
    def pad(rows: Sequence[dict[int, float]]) -> Inputs:
        """Pad words and weights to arrays: words (m, W) int32, weights (m, W) float32, W at most 64."""
        size = min(MAX_WORDS, max((len(row) for row in rows), default=1) or 1)
        words, weights = np.zeros((len(rows), size), np.int32), np.zeros((len(rows), size), np.float32)
        for i, row in enumerate(rows):
            items = sorted(row.items(), key=lambda item: (-item[1], item[0]))[:size]
            words[i, : len(items)] = [word_id for word_id, _ in items]
            weights[i, : len(items)] = [weight for _, weight in items]
        return {"words": torch.from_numpy(words), "weights": torch.from_numpy(weights)}

    def forward(self, x: Inputs) -> Tensor:
        """Return the weighted sum of the word vectors: (b, d)."""
        return F.embedding_bag(
            x["words"].long(), self.embedding.weight, per_sample_weights=x["weights"], mode="sum", padding_idx=0
        )


def _to_sparse(parts: Sequence[Inputs], size: int) -> Any:
    """Weights of the words of n products as a sparse matrix, (n, size)."""
    words, weights = (np.concatenate([part[name].numpy() for part in parts], 1) for name in ("words", "weights"))
    rows = np.repeat(np.arange(len(words)), words.shape[1])
    return sparse.csr_array((weights.ravel(), (rows, words.ravel())), shape=(len(words), size))
