"""Ranker folders: the same ranker comes back; an altered or incomplete folder is refused."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from recsys.artifacts.model_folder import current_version
from recsys.errors import ModelFolderError
from recsys.recommend.ranking import checkpoint as rankers
from recsys.recommend.ranking import features
from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker
from recsys.recommend.ranking.linear import LinearRanker, equal_weights
from tests.recommend.planted import SOURCES, choices, fitted

DATA = choices("crossed", users=400)
X = DATA[0]


@cache
def grown() -> BoostedTreesRanker:
    """Trees that were chosen over weights."""
    ranker = fitted(DATA, least_users=300)
    assert isinstance(ranker, BoostedTreesRanker)
    return ranker


def saved(folder: Path) -> Path:
    return kept(equal_weights(["popular", "content"]), folder)


def kept(ranker: LinearRanker | BoostedTreesRanker, folder: Path) -> Path:
    return rankers.save_ranker(ranker, folder / "ranker", encoder_version="e1", data_fingerprint="f", seed=0)


def test_a_blend_comes_back_and_is_the_current_one(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    assert current_version(tmp_path, "ranker") == folder
    blend = rankers.load_ranker(folder)
    assert isinstance(blend, LinearRanker) and blend.sources == ("popular", "content")
    assert np.array_equal(blend.weight, equal_weights(["popular", "content"]).weight)


def test_the_same_blend_has_the_same_version_and_leaves_one_folder(tmp_path: Path) -> None:
    assert saved(tmp_path) == saved(tmp_path)
    assert sorted(path.name for path in (tmp_path / "ranker").iterdir()) == sorted(["CURRENT", saved(tmp_path).name])
    other = rankers.save_ranker(
        equal_weights(["popular"]), tmp_path / "ranker", encoder_version="e1", data_fingerprint="f", seed=0
    )
    assert current_version(tmp_path, "ranker") == other != saved(tmp_path)


@pytest.mark.parametrize("damage", ["alter", "cut", "lose blend", "lose manifest", "empty manifest"])
def test_a_damaged_folder_is_refused(tmp_path: Path, damage: str) -> None:
    folder = saved(tmp_path)
    blend, manifest = folder / "blend.json", folder / "manifest.json"
    if damage == "alter":
        blend.write_text(blend.read_text().replace("0.2", "0.3"))
    elif damage == "cut":
        blend.write_bytes(blend.read_bytes()[:-5])
    elif damage == "empty manifest":
        manifest.write_text("{}")
    else:
        (blend if damage == "lose blend" else manifest).unlink()
    with pytest.raises(ModelFolderError, match="recsys train ranker"):
        rankers.load_ranker(folder)


def test_trees_come_back_with_the_same_scores_and_figures(tmp_path: Path) -> None:
    folder = kept(grown(), tmp_path)
    assert current_version(tmp_path, "ranker") == folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "blend.json",
        "manifest.json",
        "metrics.json",
        "trees.txt",
    ]
    again = rankers.load_ranker(folder)
    assert isinstance(again, BoostedTreesRanker) and again.sources == SOURCES and again.n_users == grown().n_users
    assert again.score(X).tobytes() == grown().score(X).tobytes()
    assert again.score_by_source(X).tobytes() == grown().score_by_source(X).tobytes()
    assert (
        list(again.importance.items()) == list(grown().importance.items())
        and again.holdout_ndcg == grown().holdout_ndcg
    )
    leaning = kept(dataclasses.replace(grown(), linear_weight=0.5), tmp_path)
    assert leaning != folder and rankers.load_ranker(leaning).linear_weight == 0.5


def test_trees_and_their_blend_alone_are_two_versions(tmp_path: Path) -> None:
    with_trees, alone = kept(grown(), tmp_path), kept(grown().linear, tmp_path)
    assert with_trees != alone and current_version(tmp_path, "ranker") == alone
    assert isinstance(rankers.load_ranker(alone), LinearRanker) and isinstance(
        rankers.load_ranker(with_trees), BoostedTreesRanker
    )
    assert kept(grown(), tmp_path) == with_trees


@pytest.mark.parametrize("ndcg", [(0.25, 0.125), (0.0, 0.0), (0.25, float("nan"))])
def test_what_was_measured_comes_back_also_when_it_is_nothing(tmp_path: Path, ndcg: tuple[float, float]) -> None:
    folder = kept(dataclasses.replace(grown(), holdout_ndcg=ndcg), tmp_path)
    again = rankers.load_ranker(folder)
    assert isinstance(again, BoostedTreesRanker)
    np.testing.assert_array_equal(again.holdout_ndcg, ndcg)


@pytest.mark.parametrize("name", ["blend.json", "trees.txt", "metrics.json"])
@pytest.mark.parametrize("damage", ["alter", "cut", "lose"])
def test_a_damaged_folder_of_trees_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    path = kept(grown(), tmp_path) / name
    if damage == "lose":
        path.unlink()
    else:
        held = path.read_bytes()
        path.write_bytes(held[:-7] if damage == "cut" else held.replace(b"1", b"2", 1))
    with pytest.raises(ModelFolderError, match="recsys train ranker"):
        rankers.load_ranker(path.parent)


def test_trees_beside_a_blend_of_other_sources_are_refused(tmp_path: Path) -> None:
    """A folder put together by hand, its digests right."""
    other = ("sequence", "content")
    blend = dataclasses.replace(grown().linear, sources=other, feature_names=tuple(features.feature_names(other)))
    folder = kept(dataclasses.replace(grown(), linear=blend), tmp_path)
    with pytest.raises(ModelFolderError, match="another version; run 'recsys train ranker'"):
        rankers.load_ranker(folder).score(X)


def test_metrics_say_what_a_ranker_is_in_json() -> None:
    weights = rankers.ranker_metrics(equal_weights(["popular"]))
    assert weights == {"kind": "weights", "users": 0, "sources": ["popular"]}
    unasked = dataclasses.replace(grown(), holdout_ndcg=(0.5, float("nan")))
    said = json.loads(json.dumps(rankers.ranker_metrics(unasked), allow_nan=False))
    assert said["kind"] == "trees" and said["users"] == 400 and said["sources"] == list(SOURCES)
    assert said["ndcg@10"] == {"trees": 0.5, "weights": None}
    assert list(said["importance"]) == list(grown().importance)
