"""Project products to two dimensions for a map that keeps neighbours together.

In: unit vectors, the positions of the previous run. Out: positions (n, 2).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Final, Literal

import numpy as np

from recsys.errors import UsageError
from recsys.types import FloatArray, IntArray

ProjectionMethod = Literal["pca", "tsne", "umap"]

_SAMPLE: Final = {"tsne": 2500, "umap": 20_000}
"""Products laid out directly, at most; the others are placed among their neighbours in the sample."""

_N_NEIGHBOURS: Final = 5
_N_COMPONENTS: Final = 50
_PERPLEXITY: Final = 30
_MIN_PRODUCTS: Final = 10
"""Products below which every method falls back to `pca`."""
_BLOCK: Final = 4096
_ITERATIONS: Final = 750
_UPDATE_ITERATIONS: Final = 250


def check_method(method: str) -> None:
    """Check that a projection method is installed.

    Raises:
        UsageError: UMAP is requested and not installed.
    """
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise UsageError(
            "[cluster] map = umap needs the package umap-learn: pip install 'recsys[umap]', or set tsne or pca"
        )


def project_2d(
    vectors: FloatArray, method: ProjectionMethod, *, seed: int, previous: FloatArray | None = None
) -> FloatArray:
    """Return positions of n products: (n, 2) float32, mean 0.

    `pca` shows the two directions in which products differ most (Pearson 1901); `tsne` (van der Maaten and Hinton 2008)
    and `umap` (McInnes et al. 2018) keep neighbours together. Above 2,500 products (`umap`: 20,000) a sample is laid
    out and the others are placed among their neighbours in it. With previous positions the layout starts from them and
    is rotated so that products move as little as possible.

    Args:
        vectors: (n, d) unit vectors.
        method: projection method.
        seed: of samples and starts; the same seed and previous positions give the same map.
        previous: (n, 2) float32 previous positions, NaN = none.

    Raises:
        UsageError: UMAP is requested and not installed.
    """
    check_method(method)
    if previous is not None and not np.isfinite(previous).all(axis=1).any():
        previous = None
    components = _pca(vectors, 2)
    if method == "pca" or len(vectors) < _MIN_PRODUCTS or float(np.ptp(components)) < 1e-6:
        return _procrustes_align(components, previous)
    rows = np.sort(np.random.default_rng(seed).permutation(len(vectors))[: _SAMPLE[method]])
    reduced = _pca(vectors[rows], _N_COMPONENTS)
    start = components[rows] if previous is None else _fill_positions(reduced, previous[rows])
    layout = (_tsne if method == "tsne" else _umap)(reduced, start, seed=seed, is_update=previous is not None)
    out = np.empty((len(vectors), 2), np.float32)
    out[rows] = layout
    rest = np.setdiff1d(np.arange(len(vectors)), rows, assume_unique=True)
    if len(rest):
        out[rest] = _place_among_neighbours(vectors[rest], vectors[rows], layout)
    return _procrustes_align(out, previous)


def _pca(vectors: FloatArray, length: int) -> FloatArray:
    """Return the first principal components, largest loading positive: (n, length) float32, mean 0."""
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


def _tsne(vectors: FloatArray, start: FloatArray, *, seed: int, is_update: bool) -> FloatArray:
    """Run t-SNE from initial positions.

    It uses one thread: several would add the same numbers in a different order each time.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    method: Any = TSNE(
        perplexity=min(_PERPLEXITY, (len(vectors) - 1) / 3),
        init=np.ascontiguousarray(start if is_update else start / max(float(start[:, 0].std()), 1e-12) * 1e-4),
        early_exaggeration=1.0
        if is_update
        else 12.0,  # the early phase that separates clusters would disturb a finished map
        max_iter=_UPDATE_ITERATIONS if is_update else _ITERATIONS,
        random_state=seed,
        n_jobs=1,
    )
    with threadpool_limits(1):
        return np.asarray(method.fit_transform(vectors), np.float32)


def _umap(vectors: FloatArray, start: FloatArray, *, seed: int, is_update: bool) -> FloatArray:
    """Run UMAP from initial positions; with a seed it uses one thread."""
    umap_package: Any = importlib.import_module("umap")
    scaled = start if is_update else start / max(float(np.abs(start).max()), 1e-12) * 10
    method = umap_package.UMAP(
        n_neighbors=min(15, len(vectors) - 1),
        init=np.ascontiguousarray(scaled, np.float32),
        n_epochs=100 if is_update else None,
        learning_rate=0.1 if is_update else 1.0,
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(method.fit_transform(vectors), np.float32)


def _fill_positions(vectors: FloatArray, previous: FloatArray) -> FloatArray:
    """Return previous positions; products without one are placed among their neighbours.

    Where no product has one, all positions are 0.
    """
    has_position = np.isfinite(previous).all(axis=1)
    out = np.zeros_like(previous)
    out[has_position] = previous[has_position]
    if has_position.any() and not has_position.all():
        out[~has_position] = _place_among_neighbours(
            vectors[~has_position], vectors[has_position], previous[has_position]
        )
    return out


def _place_among_neighbours(queries: FloatArray, references: FloatArray, positions: FloatArray) -> FloatArray:
    """Return the weighted mean position of the five nearest known products: (q, 2) float32.

    Nearer products weigh more.
    """
    import faiss

    out = np.empty((len(queries), 2), np.float32)
    contiguous = np.ascontiguousarray(references)
    for start in range(0, len(queries), _BLOCK):
        distance, neighbours = faiss.knn(
            np.ascontiguousarray(queries[start : start + _BLOCK]), contiguous, min(_N_NEIGHBOURS, len(references))
        )
        weight = 1 / (np.maximum(distance, 0) + 1e-3)
        out[start : start + _BLOCK] = (
            positions[neighbours] * (weight / weight.sum(axis=1, keepdims=True))[..., None]
        ).sum(axis=1)
    return out


def _procrustes_align(positions: FloatArray, previous_positions: FloatArray | None) -> FloatArray:
    """Rotate and mirror positions to match the previous ones (orthogonal Procrustes)."""
    from scipy.linalg import orthogonal_procrustes

    out = positions - positions.mean(axis=0) if len(positions) else positions
    shared: IntArray = (
        np.flatnonzero(np.isfinite(previous_positions).all(axis=1))
        if previous_positions is not None
        else np.zeros(0, np.int64)
    )
    if previous_positions is not None and len(shared) > 1:
        previous, current = previous_positions[shared], out[shared]
        rotation, _ = orthogonal_procrustes(current - current.mean(axis=0), previous - previous.mean(axis=0))
        out = out @ rotation
    return np.ascontiguousarray(out, np.float32)
