"""Vectors that say nothing: what is left when a model is not told what its products are.

In: a shape. Out: directions drawn at random, as long as vectors are.
"""

from __future__ import annotations

import numpy as np

from recsys.types import FloatArray


def directions(shape: tuple[int, ...], seed: int) -> FloatArray:
    """Unit vectors: (n, d) float32."""
    out = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    return out
