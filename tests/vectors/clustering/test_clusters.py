from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from recsys.config import ClusterSettings
from recsys.errors import DataContractError
from recsys.vectors.clustering import clusters, labels
from recsys.vectors.clustering.clusters import cluster_products
from recsys.vectors.clustering.id_matching import PreviousClusters
from recsys.vectors.embeddings.table import EmbeddingTable
from tests.suites import clustered
from tests.vectors.shops import catalogue


def blobs(sizes, d=6, *, seed=0):
    """Well separated groups: vectors (n, d) and the true group of each, shuffled."""
    g = np.random.default_rng(seed)
    truth = g.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = np.eye(len(sizes), d)[truth] + 0.05 * g.normal(size=(len(truth), d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), truth


def grouped(vectors, shop=None, previous=None, *, seed=0, terms=2, **settings):
    shop = shop if shop is not None else catalogue({"title": [None] * len(vectors)})
    table = EmbeddingTable(shop.ids, vectors.copy(), np.zeros(len(vectors), np.uint64), "v1")
    previous = PreviousClusters(previous) if isinstance(previous, pl.DataFrame) else previous
    return cluster_products(table, shop, ClusterSettings(terms=terms, **settings), seed=seed, previous=previous), shop


def settings(method):
    return ClusterSettings(method=method)


def test_separate_groups_are_found_and_numbered_by_size():
    vectors, truth = blobs([30, 80, 50])
    found, shop = grouped(vectors, number=3)
    assert found.frame["cluster_id"].to_list() == [0, 1, 2] and found.frame["size"].to_list() == [80, 50, 30]
    assert [set(truth[found.cluster_id == group]) for group in range(3)] == [{1}, {2}, {0}]
    assert found.distance.dtype == np.float32 and 0 <= found.distance.min() and found.distance.max() < 0.1
    members = found.members(shop.ids)
    assert members.columns == ["product_id", "cluster_id", "distance"] and members.height == 160


def test_the_same_twice():
    vectors, _ = blobs([40] * 5, seed=3)
    one, two = grouped(vectors)[0], grouped(vectors)[0]
    assert one.cluster_id.tobytes() == two.cluster_id.tobytes() and one.frame.equals(two.frame)


@pytest.mark.parametrize(("n", "number", "most"), [(1, 0, 1), (2, 0, 1), (5, 9, 5), (200, 0, 10), (200, 7, 7)])
def test_how_many_groups(n, number, most):
    g = np.random.default_rng(n)
    vectors = g.normal(size=(n, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found, _ = grouped(vectors, number=number)
    assert found.frame.height == most and found.frame["size"].sum() == n and found.frame["size"].min() > 0


def test_no_products_and_all_the_same_product():
    found, _ = grouped(np.zeros((0, 4), np.float32), catalogue({"title": []}))
    assert found.frame.height == 0 and found.frame.columns == ["cluster_id", "label", "size", "terms"]
    found, _ = grouped(np.tile(np.float32([1, 0]), (40, 1)), number=5)
    assert found.frame["size"].to_list() == [40] and found.frame["label"].to_list() == ["group 0"]


def test_ids_stay_when_products_come_and_go():
    vectors, truth = blobs([60, 50, 40, 30])
    first, shop = grouped(vectors, number=4)
    before = first.members(shop.ids)
    g = np.random.default_rng(1)
    kept = np.flatnonzero((g.random(180) > 0.2) & (truth != 2))  # a tenth leaves, and the third group altogether
    new, _ = blobs([0, 0, 0, 0, 45], seed=5)
    now = np.concatenate([vectors[kept], new])
    names = [f"p{row}" for row in kept] + [f"new{row}" for row in range(45)]
    found, _ = grouped(now, catalogue({"product_id": names, "title": [None] * len(names)}), before, number=4, seed=9)
    assert (found.cluster_id[: len(kept)] == first.cluster_id[kept]).all()
    assert set(found.cluster_id[len(kept) :]) == {4}  # the id of the group that left is not given away


def test_ids_follow_the_products_even_when_the_space_is_another():
    vectors, _ = blobs([60, 50, 40, 30])
    first, shop = grouped(vectors, number=4)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0].astype(np.float32)  # a model trained anew
    found, _ = grouped(vectors @ turn, shop, first.members(shop.ids), number=4, seed=9)
    assert (found.cluster_id == first.cluster_id).all()


def test_the_number_stays_until_another_is_clearly_better():
    g = np.random.default_rng(0)
    vectors = g.normal(size=(260, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, shop = grouped(vectors[:200], catalogue({"title": [None] * 200}))
    before = first.members(shop.ids)
    assert not first.selected.is_previous and [trial.n_clusters for trial in first.trials] == [5, 6, 8, 10, 13, 16, 20]
    again = grouped(vectors[:260], previous=before)[0]
    assert len(again.trials) == 8  # the numbers for 260 products, and what there was
    assert (again.cluster_id[:200] == first.cluster_id).mean() > 0.8
    assert grouped(vectors[:20], previous=before)[0].n_clusters <= 6  # far too many for 20 products
    stranger = before.with_columns(pl.col("product_id") + "x")
    assert grouped(vectors[:200], previous=stranger)[0].frame.equals(first.frame)


@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "hdbscan"])
def test_nothing_moves_when_nothing_changed(method):
    vectors, _ = blobs([60, 50, 40, 30, 20, 25, 35], d=9, seed=4)
    first, shop = grouped(vectors, method=method)
    again, _ = grouped(
        vectors,
        shop,
        PreviousClusters(first.members(shop.ids), {}, clusters.method_key(settings(method)), first.next_id),
        method=method,
    )
    assert again.selected.is_previous and (again.cluster_id == first.cluster_id).all()
    assert again.frame.equals(first.frame) and again.changes.height == 0


@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "hdbscan"])
def test_five_in_a_hundred_others_leave_the_ids_of_the_rest(method):
    vectors = clustered(600, 12, seed=5)
    names = [f"p{row}" for row in range(600)]
    first, shop = grouped(vectors[:570], catalogue({"product_id": names[:570]}), method=method)
    last = PreviousClusters(first.members(shop.ids), {}, clusters.method_key(settings(method)), first.next_id)
    second, _ = grouped(vectors[30:], catalogue({"product_id": names[30:]}), last, method=method, seed=1)
    assert (second.cluster_id[:540] == first.cluster_id[30:]).mean() >= 0.95
    assert (second.cluster_id[540:] >= 0).any()


@pytest.mark.parametrize("method", ["agglomerative", "hdbscan"])
def test_a_product_that_became_another_goes_to_its_new_group(method):
    vectors, truth = blobs([60, 50, 40, 30], seed=6)
    first, shop = grouped(vectors, method=method)
    one, other = np.flatnonzero(truth == 0)[0], np.flatnonzero(truth == 3)[0]
    now = vectors.copy()
    now[one] = vectors[other]
    last = PreviousClusters(first.members(shop.ids), {}, clusters.method_key(settings(method)), first.next_id)
    second, _ = grouped(now, shop, last, method=method)
    assert second.selected.is_previous and second.cluster_id[one] == first.cluster_id[other] != first.cluster_id[one]
    rest = np.arange(180) != one
    assert (second.cluster_id[rest] == first.cluster_id[rest]).all()


def test_another_method_takes_over_and_the_ids_go_over_with_the_products():
    vectors, _ = blobs([60, 50, 40, 30])
    first, shop = grouped(vectors, number=4)
    last = PreviousClusters(first.members(shop.ids), {}, "kmeans", first.next_id)
    for other in ({"method": "agglomerative", "number": 4}, {"method": "hdbscan"}):
        found, _ = grouped(vectors, shop, last, **other)
        assert not found.selected.is_previous
        for one in set(found.cluster_id.tolist()) & set(first.cluster_id.tolist()):
            before = first.cluster_id[found.cluster_id == one]
            assert np.bincount(before).argmax() == one
    assert (grouped(vectors, shop, last, method="agglomerative", number=4)[0].cluster_id == first.cluster_id).all()


def test_ids_of_groups_that_went_are_not_given_again_nights_later():
    vectors, truth = blobs([60, 50, 40, 30])
    first, shop = grouped(vectors, number=4)
    assert first.next_id == 4 and set(first.cluster_id[truth == 3]) == {3}
    left = np.flatnonzero(truth != 3)
    names = catalogue({"product_id": [f"p{row}" for row in left]})
    second, _ = grouped(
        vectors[left], names, PreviousClusters(first.members(shop.ids), {3: "hats"}, "kmeans", first.next_id), number=3
    )
    assert second.changes.rows() == [("retired", 3, "hats", 0, "")] and second.next_id == 4
    third, _ = grouped(
        vectors, shop, PreviousClusters(second.members(names.ids), {}, "kmeans", second.next_id), number=4
    )
    assert set(third.cluster_id[truth == 3]) == {4}
    assert third.changes.rows() == [("new", 4, "group 4", 30, "100% new products")]


def test_what_cannot_be_done_as_asked_is_said():
    vectors, _ = blobs([6, 5])
    assert "number is 9, but there are 5 products: 5 clusters" in grouped(vectors[:5], number=9)[0].warnings[0]
    same = np.tile(np.float32([1, 0]), (40, 1))
    for method in ("kmeans", "agglomerative", "hdbscan"):
        found, _ = grouped(same, method=method)
        assert found.n_clusters == 1 and "have the same vector" in found.warnings[0]
        for few in (0, 1, 3):
            small, _ = grouped(vectors[:few], catalogue({"title": [None] * few}), method=method)
            assert len(small.cluster_id) == few and small.groups.height == small.frame.height
    twins = np.repeat(np.eye(2, 4, dtype=np.float32), 20, axis=0)
    assert "number is 5, but 2 clusters were found" in grouped(twins, number=5)[0].warnings[0]


def test_density_that_finds_nothing_says_what_to_do():
    g = np.random.default_rng(0)
    vectors = g.normal(size=(60, 30)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found, shop = grouped(vectors, method="hdbscan", smallest=25)
    assert (found.cluster_id == -1).all() and np.isnan(found.distance).all() and found.n_clusters == 0
    assert found.frame.rows() == [(-1, "no group", 60, "[]")]
    assert found.groups["exemplars"].to_list() == [[]] and found.groups["parent_label"].to_list() == ["no group"]
    (said,) = found.warnings
    assert "found no cluster" in said and "25 products" in said and "[cluster] smallest" in said and "kmeans" in said
    after, _ = grouped(vectors, shop, PreviousClusters(found.members(shop.ids), {}, "hdbscan 25", 0), number=3)
    assert after.n_clusters == 3 and sorted(set(after.cluster_id)) == [0, 1, 2]


def test_groups_have_parents_and_examples():
    g = np.random.default_rng(1)
    big = np.eye(3, 16)[np.arange(240) % 3] * 2
    vectors = big + np.eye(9, 16, k=4)[np.arange(240) % 9] + 0.15 * g.normal(size=(240, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    kinds, makes = ["boots", "hat", "scarf"], [f"maker{row}" for row in range(9)]
    shop = catalogue({"title": [f"{kinds[row % 3]} {makes[row % 9]} no{row}" for row in range(240)]})
    found, _ = grouped(vectors, shop, number=9)
    groups = found.groups
    assert groups.columns == ["cluster_id", "label", "size", "terms", "exemplars", "parent", "parent_label"]
    assert groups["parent"].n_unique() == 3 and set(groups["parent_label"]) == set(kinds)
    for one in groups.iter_rows(named=True):
        assert one["parent"] == groups.filter(pl.col("parent") == one["parent"])["cluster_id"].min()
        rows = [int(name[1:]) for name in one["exemplars"]]
        assert len(rows) == 6 and (found.cluster_id[rows] == one["cluster_id"]).all()


def test_a_table_of_other_products_is_refused():
    shop = catalogue({"title": [None] * 3})
    table = EmbeddingTable.empty(4, "v1")
    with pytest.raises(DataContractError, match="different products"):
        cluster_products(table, shop, ClusterSettings(), seed=0)


class TestLabels:
    def test_words_that_set_a_group_apart_and_no_others(self):
        titles = ["the red ankle boots"] * 6 + ["the blue silk scarf"] * 5 + ["the wool hat"] * 4
        shop = catalogue({
            "title": titles, "category": ["Boots"] * 6 + ["Scarf"] * 5 + [None] * 4,
            "attributes.material": ["leather"] * 6 + ["silk"] * 5 + ["wool"] * 4, "attributes.size": list(range(15)),
            "price": [1.0] * 15,
        })  # fmt: skip
        frame = labels.label_clusters(shop, np.array([3] * 6 + [1] * 5 + [8] * 4), 3)
        assert frame["cluster_id"].to_list() == [1, 3, 8] and frame["size"].to_list() == [5, 6, 4]
        terms = dict(zip(frame["cluster_id"], map(json.loads, frame["terms"]), strict=True))
        assert all("the" not in words for words in terms.values())
        # what is said with certainty by an earlier word is not said again
        assert [len(words) for words in terms.values()] == [1, 1, 1]
        own = {3: {"boots", "leather", "ankle", "red"}, 1: {"scarf", "silk", "blue"}, 8: {"hat", "wool"}}
        assert all(set(words[0].lower().split()) <= own[group] for group, words in terms.items())

    def test_the_most_telling_first_then_what_adds_to_it(self):
        titles = ["bra", "bra", "bra", "bra", "tights", "tights"] + ["shoe", "shoe", "bag", "bag", "bra", "belt"]
        area = ["lingerie"] * 6 + ["leather"] * 4 + ["sport"] * 2
        shop = catalogue({"title": titles, "category": area})
        frame = labels.label_clusters(shop, np.array([0] * 6 + [1] * 6), 2)
        assert frame["label"].to_list()[0] == "lingerie · bra"

    def test_plural_and_case_are_one_word(self):
        shop = catalogue({"title": ["Dress", "dresses", "DRESS", "Dress long"] + ["hat"] * 6})
        frame = labels.label_clusters(shop, np.array([0] * 4 + [1] * 6), 4)
        assert frame["label"].to_list() == ["Dress", "hat"]  # as most often written

    def test_two_words_that_are_one_name_stay_together(self):
        makes = ["Mother Earth red Kurta", "Mother Earth blue Kurta", "Mother Earth Dress", "Mark Taylor Shirt"]
        titles = makes[:3] * 2 + [makes[3]] * 4 + ["red Shirt", "blue Dress", "red Kurta"] + ["Shirt"] * 8
        frame = labels.label_clusters(catalogue({"title": titles}), np.array([0] * 6 + [1] * 4 + [2] * 11), 3)
        assert frame["label"][0].split(" · ")[0] == "Mother Earth" and frame["label"][1] == "Mark Taylor"
        said = json.loads(frame["terms"][0])
        assert not {"Mother", "Earth", "Earth red", "Earth blue"} & set(said)

    def test_numbers_say_nothing(self):
        shop = catalogue({"title": ["boot"] * 4 + ["hat"] * 4, "attributes.year": ["2016"] * 4 + ["2017"] * 4})
        assert labels.label_clusters(shop, np.array([0] * 4 + [1] * 4), 3)["label"].to_list() == ["boot", "hat"]

    def test_scripts_without_spaces(self):
        shop = catalogue({"title": ["红色连衣裙", "蓝色连衣裙", "绿色连衣裙", "黑色短靴", "红色短靴", "棕色短靴"]})
        frame = labels.label_clusters(shop, np.array([0, 0, 0, 1, 1, 1]), 2)
        assert frame["label"].to_list() == ["色连衣裙", "色短靴"]  # no pieces of it, and not what both groups have

    def test_lists_in_an_attribute_are_taken_apart(self):
        shop = catalogue(
            {"title": [None] * 6, "attributes.for": ["men | women", "men", "men", "kids", "kids", "women"]}
        )
        frame = labels.label_clusters(shop, np.array([0, 0, 0, 1, 1, 1]), 1)
        assert frame["label"].to_list() == ["men", "kids"]

    def test_no_two_groups_are_called_the_same(self):
        shop = catalogue({"title": ["boot red"] * 4 + ["boot blue"] * 4 + ["x"] * 9 + [None] * 6})
        frame = labels.label_clusters(shop, np.array([0] * 4 + [1] * 4 + [2] * 4 + [3] * 5 + [4] * 3 + [5] * 3), 1)
        assert frame["label"].n_unique() == 6
        assert frame["label"].to_list()[4:] == ["group 4", "group 5"]

    @settings_of(max_examples=20)
    @given(
        titles=st.lists(st.text(max_size=12) | st.none(), min_size=1, max_size=12), terms=st.integers(1, 3),
        seed=st.integers(0, 9),
    )  # fmt: skip
    def test_any_text_gives_each_group_its_own_label(self, titles, terms, seed):
        groups = np.random.default_rng(seed).integers(0, 3, size=len(titles))
        frame = labels.label_clusters(catalogue({"title": titles, "brand": titles[::-1]}), groups, terms)
        assert frame["cluster_id"].to_list() == sorted(set(groups.tolist()))
        assert frame["label"].n_unique() == frame.height and all(frame["label"].str.len_chars() > 0)


def test_real_titles_get_readable_labels(shared_data):
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    styles = pl.read_parquet(shared_data / "fashion-product-images" / "styles.parquet").filter("has_image")[:2000]
    titles = styles["productDisplayName"].to_list()
    words = TfidfVectorizer(sublinear_tf=True, min_df=3).fit_transform(titles)
    vectors = TruncatedSVD(32, random_state=0).fit_transform(words).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    shop = catalogue({"title": titles, "attributes.colour": styles["baseColour"].to_list()})
    found, _ = grouped(vectors, shop, terms=3)
    named = " · ".join(found.frame["label"]).lower()
    for word in ("shirt", "watch", "handbag", "shoe", "jeans", "flip", "sunglasses"):
        assert word in named
    for word in (" and ", " of ", " with ", " the "):
        assert word not in named
    kinds = styles["articleType"].to_numpy()
    most = sum(
        np.unique(kinds[found.cluster_id == group], return_counts=True)[1].max() for group in found.frame["cluster_id"]
    )
    assert most / len(kinds) > 0.45  # purity against labels that were never seen


def test_groups_are_learned_from_some_and_the_others_change_nothing():
    from recsys.vectors.clustering.kmeans import kmeans_fit_subset

    held = clustered(300, 8, seed=1)
    other = held.copy()
    other[200:] = clustered(100, 8, seed=2)
    among = np.arange(200)
    one, two = kmeans_fit_subset(held, seed=0, rows=among), kmeans_fit_subset(other, seed=0, rows=among)
    np.testing.assert_array_equal(one[:200], two[:200])
    assert len(np.unique(one)) == len(np.unique(one[:200])) == 10 and (one[200:] != two[200:]).any()
    middles = np.stack([held[:200][one[:200] == group].mean(axis=0) for group in range(10)])
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    np.testing.assert_array_equal(one[200:], (held[200:] @ middles.T).argmax(axis=1))
    assert kmeans_fit_subset(held, seed=0, rows=np.zeros(0, np.int64)).tolist() == [0] * 300
