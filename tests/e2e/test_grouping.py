"""`recsys cluster`: what it writes, what it says, what stays when it runs again another way."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import polars as pl

from recsys.vectors.clustering.files import ClusterFiles
from tests.e2e.projects import PRODUCTS, Run


def _rows(project: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(project / "recsys.db") as connection:
        return connection.execute(query).fetchall()


def test_groups_in_tables_and_in_files_agree(trained: Path) -> None:
    atlas = ClusterFiles.load(trained / "artifacts" / "clusters")  # the night has made it
    assert atlas.map_positions is not None and atlas.map_positions.height == PRODUCTS
    ids = dict(_rows(trained, "SELECT product_id, cluster_id FROM product_clusters"))
    assert dict(atlas.map_positions.select("product_id", "cluster_id").iter_rows()) == ids
    told = _rows(trained, "SELECT cluster_id, label, size, terms FROM cluster_labels ORDER BY cluster_id")
    assert [(*one[:3], json.loads(str(one[3]))) for one in told] == atlas.groups.select(
        "cluster_id", "label", "size", "terms"
    ).rows()
    for one in atlas.groups.iter_rows(named=True):
        assert one["exemplars"] and {ids[name] for name in one["exemplars"]} == {one["cluster_id"]}
        assert one["parent"] in atlas.groups["cluster_id"].to_list()
    assert atlas.metadata["run_id"] == _rows(trained, "SELECT MAX(run_id) FROM product_clusters")[0][0]


def test_another_method_and_back(copied: Path, recsys: Run) -> None:
    before = dict(_rows(copied, "SELECT product_id, cluster_id FROM product_clusters"))
    places = pl.read_parquet(copied / "artifacts/clusters/map.parquet")
    again = recsys("cluster", "-C", copied, "--json").document
    assert again["counts"]["new"] == again["counts"]["retired"] == 0 and again["warnings"] == []
    assert sum(row["size"] for row in again["rows"]) == PRODUCTS
    assert again["tables"]["new and retired groups"] == []
    (taken,) = [row for row in again["tables"]["numbers of groups tried"] if row["taken"]]
    assert taken["kept"] and taken["clusters"] == again["counts"]["clusters"]
    metrics = json.loads(str(_rows(copied, f"SELECT metrics FROM runs WHERE run_id = '{again['run_id']}'")[0][0]))
    assert metrics["asked"] == metrics["method"] == "kmeans" and metrics["silhouette"] == taken["silhouette"]
    moved = pl.read_parquet(copied / "artifacts/clusters/map.parquet")
    assert places.columns == moved.columns == ["product_id", "x", "y", "cluster_id"]

    other = recsys("cluster", "--method", "agglomerative", "--number", "2", "--map", "none", "-C", copied, "--json")
    assert other.code == 0, other.err
    ids = dict(_rows(copied, "SELECT product_id, cluster_id FROM product_clusters"))
    counts = other.document["counts"]
    assert counts["clusters"] == 2 == len(set(ids.values()))
    assert len(set(before.values()) - set(ids.values())) == counts["retired"] > 0
    retired = [row for row in other.document["tables"]["new and retired groups"] if row["change"] == "retired"]
    assert {row["cluster_id"] for row in retired} == set(before.values()) - set(ids.values())
    assert not (copied / "artifacts/clusters/map.parquet").exists()

    back = recsys("cluster", "--map", "pca", "-C", copied)
    assert back.code == 0 and "for example" in back.out
    fresh = set(dict(_rows(copied, "SELECT product_id, cluster_id FROM product_clusters")).values()) - set(ids.values())
    assert not fresh & set(before.values())  # no id is given twice


def test_products_in_no_group_are_told_and_stand_in_the_views(copied: Path, recsys: Run) -> None:
    found = recsys("cluster", "--method", "hdbscan", "-C", copied, "--json")
    assert found.code == 0, found.err
    none = found.document["counts"]["in_no_group"]
    assert _rows(copied, "SELECT COUNT(*) FROM product_clusters") == [(PRODUCTS,)]
    told = _rows(copied, "SELECT label, size FROM cluster_labels WHERE cluster_id = -1")
    assert told == ([("no group", none)] if none else [])
    assert (2 * none > PRODUCTS) == any("[cluster] smallest" in said for said in found.document["warnings"])
    wrong = recsys("cluster", "--method", "hdbscan", "--number", "5", "-C", copied)
    assert wrong.code == 2 and "hdbscan determines the number of clusters itself" in wrong.err
