from __future__ import annotations

import numpy as np
import pytest

from recsys.vectors.clustering.silhouette import (
    ClusteringTrial,
    SilhouetteScorer,
    candidate_cluster_counts,
    is_acceptable_count,
    select_trial,
)
from tests.suites import clustered


def plainly(vectors, group):
    """Silhouettes by their definition, product by product."""
    apart = 1 - vectors @ vectors.T
    out = []
    for row, own in enumerate(group):
        others = (group == own) & (np.arange(len(group)) != row)
        if own < 0 or not others.any():
            out.append(0.0)
            continue
        a = apart[row, others].mean()
        b = min(apart[row, group == other].mean() for other in set(group) - {own, -1})
        out.append((b - a) / max(a, b))
    return np.array(out)


def test_silhouettes_are_those_of_the_definition():
    vectors = clustered(120, 8, seed=1, groups=5)
    g = np.random.default_rng(0)
    group = g.integers(0, 4, size=120)
    judge = SilhouetteScorer(vectors, seed=0)
    np.testing.assert_allclose(judge.score(group).silhouettes, plainly(vectors, group), atol=1e-5)
    group[group == 3] = -1  # in no group: 0, and nobody's neighbour
    group[7] = 9  # alone in its group: 0
    np.testing.assert_allclose(judge.score(group).silhouettes, plainly(vectors, group), atol=1e-5)
    for same in (np.zeros(120, np.int64), np.arange(120), np.full(120, -1)):
        assert judge.score(same).silhouette == 0


def test_a_sample_is_the_same_for_every_grouping(monkeypatch):
    monkeypatch.setattr("recsys.vectors.clustering.silhouette._SAMPLE", 50)
    vectors = clustered(300, 8, seed=2, groups=4)
    group = np.random.default_rng(1).integers(0, 4, size=300)
    one, two = SilhouetteScorer(vectors, seed=3), SilhouetteScorer(vectors, seed=3)
    assert len(one.score(group).silhouettes) == 50
    np.testing.assert_array_equal(one.score(group).silhouettes, two.score(group).silhouettes)


def trial(number, silhouette, *, kept=False, spread=0.0):
    values = silhouette + spread * np.array([1.0, -1.0] * 50)
    return ClusteringTrial(np.arange(number), kept, values)


def test_the_fewest_groups_that_are_not_clearly_worse():
    tried = [trial(10, 0.30), trial(20, 0.407), trial(30, 0.41), trial(40, 0.40)]
    assert select_trial(tried).n_clusters == 20
    assert select_trial(tried[2:]).n_clusters == 30 and select_trial([trial(10, 0.30), trial(20, 0.2)]).n_clusters == 10
    # with so much chance in it, .41 is not clearly more than .30
    assert select_trial([trial(10, 0.30, spread=3.0), trial(30, 0.41)]).n_clusters == 10


@pytest.mark.parametrize(("gain", "number"), [(-0.2, 25), (0.015, 25), (0.03, 30)])
def test_what_was_kept_stays_until_another_is_better_by_much(gain, number):
    assert select_trial([trial(30, 0.40 + gain), trial(25, 0.40, kept=True)]).n_clusters == number
    assert select_trial([trial(25, 0.40, kept=True)]).is_previous


def test_numbers_worth_trying():
    assert candidate_cluster_counts(0) == candidate_cluster_counts(3) == candidate_cluster_counts(7) == [
        1
    ] and candidate_cluster_counts(8) == [2, 3, 4]
    assert (candidate_cluster_counts(600)[0], candidate_cluster_counts(600)[-1]) == (9, 35) and (
        candidate_cluster_counts(10_000)[0],
        candidate_cluster_counts(10_000)[-1],
    ) == (35, 141)
    assert (candidate_cluster_counts(10**6)[0], candidate_cluster_counts(10**6)[-1]) == (100, 300)
    for n in (*range(8, 60), 1000, 10**7):
        tried = candidate_cluster_counts(n)
        assert tried == sorted(set(tried)) and 2 <= tried[0] and tried[-1] < n and len(tried) <= 7
    assert (
        is_acceptable_count(35, 600)
        and is_acceptable_count(43, 600)
        and not is_acceptable_count(44, 600)
        and not is_acceptable_count(7, 600)
    )
