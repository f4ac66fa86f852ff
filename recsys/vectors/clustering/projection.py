"""Products on a map: two numbers for each, so that near on the map is near in the space as far as a plane can show it.

In: unit vectors, the positions of last time. Out: positions (n, 2).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Final, Literal

import numpy as np

from recsys.errors import UsageError
from recsys.types import FloatArray, IntArray

Kind = Literal["pca", "tsne", "umap"]

_SAMPLE: Final = {"tsne": 2500, "umap": 20_000}
"""Products laid out one by one; the others stand among their neighbours of these."""

_NEAR: Final = 5
_DIMENSIONS: Final = 50
_PERPLEXITY: Final = 30
_FEWEST: Final = 10
_BLOCK: Final = 4096
_ITERATIONS: Final = 750
_AGAIN: Final = 250


def check_method(kind: str) -> None:
    """See that a kind of map can be drawn here.

    Raises:
        UsageError: UMAP is asked for and not installed.
    """
    if kind == "umap" and importlib.util.find_spec("umap") is None:
        raise UsageError(
            "[cluster] map = umap needs the package umap-learn: pip install 'recsys[umap]', or take tsne or pca"
        )


def project_2d(vectors: FloatArray, kind: Kind, *, seed: int, last: FloatArray | None = None) -> FloatArray:
    """Positions of n products: (n, 2) float32, mean 0.

    `pca` shows the two directions in which products differ most (Pearson 1901); `tsne` (van der Maaten and Hinton
    2008) and `umap` (McInnes et al. 2018) keep neighbours together. Over 2,500 products (`umap`: 20,000) a sample is
    laid out and the others stand among their neighbours in it. With the positions of last time the layout begins
    there, and is turned so that products stand as near as possible to where they stood.

    Args:
        vectors: (n, d) unit vectors.
        kind: how.
        seed: of samples and starts; the same seed and positions of last time give the same map.
        last: (n, 2) float32 positions of last time, NaN = it had none.

    Raises:
        UsageError: UMAP is asked for and not installed.
    """
    check_method(kind)
    if last is not None and not np.isfinite(last).all(axis=1).any():
        last = None
    flat = _pca(vectors, 2)
    if kind == "pca" or len(vectors) < _FEWEST or float(np.ptp(flat)) < 1e-6:
        return _procrustes_align(flat, last)
    rows = np.sort(np.random.default_rng(seed).permutation(len(vectors))[: _SAMPLE[kind]])
    some = _pca(vectors[rows], _DIMENSIONS)
    start = flat[rows] if last is None else _filled(some, last[rows])
    laid = (_tsne if kind == "tsne" else _umap)(some, start, seed=seed, again=last is not None)
    out = np.empty((len(vectors), 2), np.float32)
    out[rows] = laid
    rest = np.setdiff1d(np.arange(len(vectors)), rows, assume_unique=True)
    if len(rest):
        out[rest] = _among(vectors[rest], vectors[rows], laid)
    return _procrustes_align(out, last)


def _pca(vectors: FloatArray, length: int) -> FloatArray:
    """The first principal components, each with its largest loading positive: (n, length) float32, mean 0."""
    n, d = vectors.shape
    out = np.zeros((n, length), np.float32)
    if n < 2:
        return out
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :length]
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], 0))
    out[:, : min(length, d)] = centred @ axes
    return out


def _tsne(some: FloatArray, start: FloatArray, *, seed: int, again: bool) -> FloatArray:
    """t-SNE from a start. One thread: several would add the same numbers in another order each time."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    method: Any = TSNE(
        perplexity=min(_PERPLEXITY, (len(some) - 1) / 3),
        init=np.ascontiguousarray(start if again else start / max(float(start[:, 0].std()), 1e-12) * 1e-4),
        early_exaggeration=1.0 if again else 12.0,  # what groups a heap of dust would shake up a finished map
        max_iter=_AGAIN if again else _ITERATIONS,
        random_state=seed,
        n_jobs=1,
    )
    with threadpool_limits(1):
        return np.asarray(method.fit_transform(some), np.float32)


def _umap(some: FloatArray, start: FloatArray, *, seed: int, again: bool) -> FloatArray:
    """UMAP from a start; with a seed it uses one thread by itself."""
    umap: Any = importlib.import_module("umap")
    scaled = start if again else start / max(float(np.abs(start).max()), 1e-12) * 10
    method = umap.UMAP(
        n_neighbors=min(15, len(some) - 1),
        init=np.ascontiguousarray(scaled, np.float32),
        n_epochs=100 if again else None,
        learning_rate=0.1 if again else 1.0,
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(method.fit_transform(some), np.float32)


def _filled(vectors: FloatArray, last: FloatArray) -> FloatArray:
    """Positions of last time, and among their neighbours the products that had none; all where nobody had one: 0."""
    known = np.isfinite(last).all(axis=1)
    out = np.zeros_like(last)
    out[known] = last[known]
    if known.any() and not known.all():
        out[~known] = _among(vectors[~known], vectors[known], last[known])
    return out


def _among(asked: FloatArray, known: FloatArray, places: FloatArray) -> FloatArray:
    """Mean position of the five nearest known products, the nearer the more it counts: (q, 2) float32."""
    import faiss

    out = np.empty((len(asked), 2), np.float32)
    held = np.ascontiguousarray(known)
    for at in range(0, len(asked), _BLOCK):
        far, found = faiss.knn(np.ascontiguousarray(asked[at : at + _BLOCK]), held, min(_NEAR, len(known)))
        weight = 1 / (np.maximum(far, 0) + 1e-3)
        out[at : at + _BLOCK] = (places[found] * (weight / weight.sum(axis=1, keepdims=True))[..., None]).sum(axis=1)
    return out


def _procrustes_align(places: FloatArray, last: FloatArray | None) -> FloatArray:
    """Turned and mirrored so that products stand as near as possible to where they stood (orthogonal Procrustes)."""
    from scipy.linalg import orthogonal_procrustes

    out = places - places.mean(axis=0) if len(places) else places
    known: IntArray = np.flatnonzero(np.isfinite(last).all(axis=1)) if last is not None else np.zeros(0, np.int64)
    if last is not None and len(known) > 1:
        then, now = last[known], out[known]
        turn, _ = orthogonal_procrustes(now - now.mean(axis=0), then - then.mean(axis=0))
        out = out @ turn
    return np.ascontiguousarray(out, np.float32)
