"""Vectors for `score.py`: products around topics, users who like a few of them, made in blocks from a seed.

In: how many, a seed. Out: float32 vectors of length 1, and what each user has seen.
"""

from __future__ import annotations

import numpy as np

from recsys.types import DoubleArray, FloatArray, IntArray

TOPICS, LIKED = 300, 3
SPREAD = 0.7
"""Of a vector around its topic, in topics' lengths."""

BLOCK = 8192
"""Users made at once: a user's vector does not depend on how many there are."""


def _topics(d: int, seed: int) -> DoubleArray:
    return np.random.default_rng([seed, 0]).normal(size=(TOPICS, d))


def _unit(x: DoubleArray) -> FloatArray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def products(n: int, d: int, *, seed: int) -> FloatArray:
    """Vectors of products (n, d), each near one topic."""
    g, topics = np.random.default_rng([seed, 1]), _topics(d, seed)
    out = np.empty((n, d), np.float32)
    for start in range(0, n, BLOCK):
        some = out[start : start + BLOCK]
        some[:] = _unit(topics[g.integers(TOPICS, size=len(some))] + SPREAD * g.normal(size=some.shape))
    return out


def users(block: int, d: int, *, seed: int) -> FloatArray:
    """Vectors of the users of a block (BLOCK, d), each between LIKED topics."""
    g, topics = np.random.default_rng([seed, 2, block]), _topics(d, seed)
    liked = topics[g.integers(TOPICS, size=(BLOCK, LIKED))]
    share = g.dirichlet(np.ones(LIKED), size=BLOCK)
    return _unit(np.einsum("bl,bld->bd", share, liked) + SPREAD / 2 * g.normal(size=(BLOCK, d)))


def seen(block: int, n: int, each: int, *, seed: int) -> tuple[IntArray, IntArray]:
    """Pairs (position of the user in its block, product) of what was seen: `each` different ones a user, sorted."""
    g = np.random.default_rng([seed, 3, block])
    apart = n // each  # one of every so many products: different ones without drawing again
    rows = np.arange(each) * apart + g.integers(apart, size=(BLOCK, each))
    return np.repeat(np.arange(BLOCK), each), rows.ravel()
