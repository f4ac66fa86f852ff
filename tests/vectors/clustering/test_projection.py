from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from sklearn.decomposition import PCA

from recsys.errors import UsageError
from recsys.vectors.clustering import projection as plane
from tests.suites import clustered

NO_UMAP = pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn is not installed")
KINDS = ["pca", "tsne", pytest.param("umap", marks=NO_UMAP)]


def together(places, truth):
    """Share of products whose nearest on the map is of their group."""
    apart = ((places[:, None] - places[None]) ** 2).sum(-1)
    np.fill_diagonal(apart, np.inf)
    return (truth[apart.argmin(axis=1)] == truth).mean()


def groups(n=160, seed=0):
    g = np.random.default_rng(seed)
    truth = g.integers(0, 4, size=n)
    vectors = np.eye(4, 10)[truth] + 0.1 * g.normal(size=(n, 10))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), truth


@pytest.mark.parametrize("kind", KINDS)
def test_groups_stay_together_the_same_twice_and_yesterday_is_near(kind):
    vectors, truth = groups()
    first = plane.project_2d(vectors, kind, seed=1)
    assert first.shape == (160, 2) and first.dtype == np.float32 and together(first, truth) > 0.9
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=1e-3 * np.ptp(first))
    assert first.tobytes() == plane.project_2d(vectors, kind, seed=1).tobytes()
    turned = first @ np.array([[0, -1], [1, 0]], np.float32)  # yesterday's map lay otherwise, and lacked some
    turned[150:] = np.nan
    second = plane.project_2d(vectors, kind, seed=2, previous=turned)
    moved = np.linalg.norm(second[:150] - turned[:150], axis=1)
    assert np.median(moved) < 0.25 * turned[:150].std() and together(second, truth) > 0.9


def test_the_first_axes_are_the_principal_components():
    vectors = clustered(90, 7, seed=4)
    expected = PCA(2, svd_solver="full").fit_transform(vectors)
    found = plane.project_2d(vectors, "pca", seed=0)
    for axis in range(2):
        sign = np.sign(expected[0, axis] * found[0, axis])
        np.testing.assert_allclose(found[:, axis], sign * expected[:, axis], atol=1e-4)
    np.testing.assert_allclose(
        plane.project_2d(vectors[::-1], "pca", seed=0), found[::-1], atol=1e-4
    )  # and so the sign


def test_those_beyond_the_sample_stand_among_their_neighbours(monkeypatch):
    monkeypatch.setitem(plane._SAMPLE, "tsne", 60)
    vectors, truth = groups(200)
    assert together(plane.project_2d(vectors, "tsne", seed=0), truth) > 0.9


@pytest.mark.parametrize("kind", ["pca", "tsne"])
@pytest.mark.parametrize("n", [0, 1, 3, 40])
def test_hardly_anything_to_draw(kind, n):
    same = np.tile(np.float32([0.6, 0.8, 0]), (n, 1))
    np.testing.assert_array_equal(plane.project_2d(same, kind, seed=0), np.zeros((n, 2)))
    some = clustered(n, 3, seed=n)
    nowhere = np.full((n, 2), np.nan, np.float32)
    found = plane.project_2d(some, kind, seed=0, previous=nowhere)
    assert found.shape == (n, 2) and np.isfinite(found).all() and (n < 3 or np.ptp(found) > 0)


def test_umap_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'recsys\[umap\]', or set tsne or pca"):
        plane.project_2d(clustered(30, 4, seed=0), "umap", seed=0)
