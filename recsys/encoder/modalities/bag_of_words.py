"""Exact words: each has a vector of its own, and their weighted sum goes straight into the product vector.

A dense encoder forgets rare words, but product names, codes and brands are just that. At the start the sum is the
projection of TF-IDF on its leading directions (latent semantic analysis, Deerwester et al. 1990), which knows what goes
together, and a little of a random one, which keeps all similarities (Johnson & Lindenstrauss); training then moves the
words. In: text columns and attribute values. Out: (b, d), and word numbers for any text.
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

_SPARE: Final = 1024
FIRST: Final = 1 + _SPARE
"""Number of the first known word; they come in the order of how many products have them."""
_MOST: Final = 40_000
_CHANCE: Final = 0.6
"""Share of the random projection."""
_NOTHING: Final = 1e-5
_PACE: Final = 0.2
"""Learning rate of the words as a share of that of others: they start where they are worth keeping."""
PIECES: Final = 64
"""Different words of a product that count; the weightiest are kept."""


class BagOfWordsEncoder(nn.Module):
    """A vector for each known word, weighted by its rarity; number 0 is none, rare words share spare vectors."""

    def __init__(self, words: Sequence[str], rarity: Sequence[float], dim: int) -> None:
        super().__init__()
        self.words = list(words)
        self.rarity = [float(value) for value in rarity]
        self._numbers = {word: at + FIRST for at, word in enumerate(self.words)}
        self._spare_rarity = max(self.rarity, default=1.0)
        self.embedding = nn.Embedding(FIRST + len(self.words), dim, padding_idx=0)
        self.embedding.weight.pace = _PACE  # type: ignore[attr-defined]

    @staticmethod
    def fit(documents: Iterable[Iterable[str]], dim: int) -> BagOfWordsEncoder:
        """Learn which words at least two documents have and how rare they are (smoothed inverse document frequency)."""
        count, total = Counter[str](), 0
        for document in documents:
            count.update(set(document))
            total += 1
        kept = sorted((word for word, times in count.items() if times > 1), key=lambda word: (-count[word], word))[
            :_MOST
        ]
        return BagOfWordsEncoder(kept, [round(1 + math.log((1 + total) / (1 + count[word])), 4) for word in kept], dim)

    def initialize_lsa(self, parts: Sequence[Inputs]) -> None:
        """Set the words' vectors by the products that have them; chance comes from torch's generator.

        Args:
            parts: words and weights, see `padded`, of the same n products, to be added up.
        """
        from sklearn.utils.extmath import randomized_svd  # a second of imports that no other process needs

        weight = self.embedding.weight
        with torch.no_grad():
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            weight[0] = 0
            seed = int(torch.randint(2**31, ()))
            rows = _sparse(parts, len(weight))
            if not rows.nnz:
                return
            norm = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).ravel())
            rows = sparse.diags(1 / np.maximum(norm, 1e-6)) @ rows
            leading = min(weight.shape[1], *rows.shape)
            _, scale, directions = randomized_svd(rows, n_components=leading, n_iter=4, random_state=seed)
            directions = directions[scale > _NOTHING * scale[0]]
            weight.mul_(_CHANCE)[:, : len(directions)] += torch.from_numpy(directions.T.astype(np.float32))
            weight[0] = 0

    def used(self, parts: Sequence[Inputs]) -> Tensor:
        """How much n products say each word in all: one weight a row of the table.

        Args:
            parts: words and weights, see `padded`, of the same products, to be added up.
        """
        weight = self.embedding.weight
        return torch.from_numpy(_sparse(parts, len(weight)).sum(0)).to(weight.dtype)

    def align(self, used: Tensor, known: Sequence[int], wanted: Tensor) -> None:
        """Turn all words about the origin, so that the known ones come as near as can be to where they are wanted.

        Words stay as far from each other as they are (orthogonal Procrustes, Schönemann 1966; between the words of two
        languages, Smith et al. 2017).

        Args:
            used: how much each word is said; what is used much counts much.
            known: numbers of m words; none = nothing is turned.
            wanted: (m, d) vectors for them.
        """
        if not len(known):
            return
        weight, at = self.embedding.weight, torch.as_tensor(known, dtype=torch.long)
        with torch.no_grad():
            left, _, right = torch.linalg.svd((weight[at] * used[at][:, None]).T @ wanted)
            weight.copy_(weight @ (left @ right))

    def token_ids(self, words: Iterable[str]) -> dict[int, float]:
        """Number and weight of each different word: (1 + log times) * rarity."""
        out: dict[int, float] = {}
        for word, times in Counter(words).items():
            number = self._numbers.get(word)
            if number is None:
                number, rarity = 1 + zlib.crc32(word.encode("utf-8", "surrogatepass")) % _SPARE, self._spare_rarity
            else:
                rarity = self.rarity[number - FIRST]
            out[number] = out.get(number, 0.0) + (1 + math.log(times)) * rarity
        return out

    @staticmethod
    def padded(rows: Sequence[dict[int, float]]) -> Inputs:
        """Words and weights as arrays: words (m, W) int32, weights (m, W) float32, W at most 64."""
        size = min(PIECES, max((len(row) for row in rows), default=1) or 1)
        words, weights = np.zeros((len(rows), size), np.int32), np.zeros((len(rows), size), np.float32)
        for at, row in enumerate(rows):
            items = sorted(row.items(), key=lambda item: (-item[1], item[0]))[:size]
            words[at, : len(items)] = [number for number, _ in items]
            weights[at, : len(items)] = [weight for _, weight in items]
        return {"words": torch.from_numpy(words), "weights": torch.from_numpy(weights)}

    def forward(self, x: Inputs) -> Tensor:
        """Weighted sum of the words' vectors: (b, d)."""
        return F.embedding_bag(
            x["words"].long(), self.embedding.weight, per_sample_weights=x["weights"], mode="sum", padding_idx=0
        )


def _sparse(parts: Sequence[Inputs], size: int) -> Any:
    """Weights of the words of n products: (n, size), a sparse matrix."""
    words, weights = (np.concatenate([part[name].numpy() for part in parts], 1) for name in ("words", "weights"))
    rows = np.repeat(np.arange(len(words)), words.shape[1])
    return sparse.csr_array((weights.ravel(), (rows, words.ravel())), shape=(len(words), size))
