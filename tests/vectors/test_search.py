from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recsys.config import ImageSettings
from recsys.errors import ModelFolderError, NotFoundError, UsageError
from recsys.vectors import index, neighbours
from recsys.vectors.search import Query, similar
from recsys.vectors.table import EmbeddingTable
from tests.suites import clustered
from tests.vectors.shops import StubModel, catalogue

COLUMNS = {
    "product_id": ["0010", "0020", "0030", "0040", "0050"],
    "title": ["red boots", "blue boots", None, "scarf", "hat"],
    "price": [10.0, 20.0, 30.0, 40.0, None],
}
PLANE = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-1, 0]], np.float32)


class PlaneModel:
    """Text "up" points up, any picture points right."""

    content_version = "v1"

    def encode_text(self, texts):
        return np.array([{"up": [0, 1], "left": [-1, 0]}[text] for text in texts], np.float32)

    def encode_pictures(self, pixels):
        assert pixels.dtype == np.uint8 and pixels.shape == (1, 3, 16, 16)
        return np.array([[1, 0]], np.float32)


def never():
    raise AssertionError("the model is not needed")


def ask(query, *, shop=None, table=None, loader=PlaneModel, k=2, **options):
    shop = shop if shop is not None else catalogue(COLUMNS)
    if table is None:
        table = EmbeddingTable(shop.ids, PLANE, np.zeros(5, np.uint64), "v1")
    built = index.build(table.vectors)
    return similar(query, catalogue=shop, table=table, index=built, model_loader=loader, k=k, **options)


def test_by_product_the_product_itself_is_left_out_and_no_model_is_loaded():
    found = ask(Query(product="0010"), loader=never)
    assert found.schema == {"product_id": pl.String, "score": pl.Float32, "title": pl.String}
    assert found["product_id"].to_list() == ["0020", "0030"]
    assert found["title"].to_list() == ["blue boots", "0030"]  # the id stands in for a missing title
    np.testing.assert_allclose(found["score"], [0.8, 0.6], atol=1e-6)


def test_by_text_and_with_a_condition():
    assert ask(Query(text=" up "))["product_id"].to_list() == ["0040", "0030"]
    assert ask(Query(text="up"), where="price < 35")["product_id"].to_list() == ["0030", "0020"]
    assert ask(Query(text="up"), where="price < 15")["product_id"].to_list() == ["0010"]
    assert ask(Query(text="up"), where="price < 0").height == 0
    with pytest.raises(UsageError, match="no column 'prise'"):
        ask(Query(text="up"), where="prise < 1")


def test_a_picture_and_mixes(tmp_path):
    file = tmp_path / "photo.png"
    Image.new("RGB", (20, 30), "red").save(file)
    small = ImageSettings(size=16)
    assert ask(Query(image=file), images=small)["product_id"].to_list() == ["0010", "0020"]
    half = ask(Query(image=file, text="up"), images=small, k=3)
    assert half["product_id"].to_list() == ["0020", "0030", "0010"]  # 45 degrees: between the two, ties by row
    mostly_up = Query(image=file, text="up", weights={"image": 0.2})
    assert ask(mostly_up, images=small)["product_id"].to_list() == ["0040", "0030"]
    less_up = Query(product="0030", text="up", weights={"text": -0.8})
    assert ask(less_up)["product_id"].to_list() == ["0010", "0020"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("photo.jpg", None, "there is no picture"),
        ("photo.jpg", b"just text", "image_not_a_picture"),
        ("photo.jpg", b"\xff\xd8\xff\xe0", "cannot be used"),
        ("photo.jpg", b"\xff\xd8\xff" + bytes(2_000_000), "larger than 1.0 MB"),
    ],
)
def test_a_picture_that_cannot_be_used(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        ask(Query(image=tmp_path / name), loader=never, images=ImageSettings(size=16, max_megabytes=1))


def test_an_unknown_product_is_answered_with_the_nearest_ids():
    with pytest.raises(NotFoundError, match="unknown product '00100'; the nearest ids are '0010'"):
        ask(Query(product="00100"))
    with pytest.raises(NotFoundError, match="no id looks like it"):
        ask(Query(product="zzz"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Query(),
        lambda: Query(text="  "),
        lambda: Query(text="up", weights={"txt": 1}),
        lambda: Query(text="up", weights={"text": float("nan")}),
    ],
)
def test_a_query_without_content_is_refused(make):
    with pytest.raises(UsageError):
        make()


def test_parts_that_cancel_each_other_out():
    with pytest.raises(UsageError, match="cancel"):
        ask(Query(product="0010", text="left"))


def test_what_may_not_be_sold_is_not_found_but_can_be_asked_about():
    shop = catalogue(COLUMNS, sellable=[False, False, True, True, True])
    assert ask(Query(product="0010"), shop=shop)["product_id"].to_list() == ["0030", "0040"]
    assert ask(Query(product="0010"), shop=shop, sellable_only=False)["product_id"].to_list() == ["0020", "0030"]


def test_a_table_older_than_the_catalogue():
    table = EmbeddingTable(catalogue(COLUMNS).ids, PLANE, np.zeros(5, np.uint64), "v1")
    shop = catalogue({"product_id": ["0005", "0010", "0030", "0040"], "title": ["new", "a", "b", "c"]})
    found = ask(Query(product="0010"), shop=shop, table=table, k=9)
    assert found.rows() == [("0030", pytest.approx(0.6), "b"), ("0040", 0.0, "c")]
    with pytest.raises(NotFoundError, match="'0005' has no vector yet; run 'recsys embed'"):
        ask(Query(product="0005"), shop=shop, table=table)


def test_a_table_of_another_model_is_refused():
    with pytest.raises(ModelFolderError, match="of model v1, not of v2"):
        ask(Query(text="up"), loader=lambda: StubModel("v2", dim=2))


class TestNeighbours:
    def test_against_a_plain_search(self):
        vectors = clustered(150, 6, seed=0)
        shop = catalogue({"title": [None] * 150})
        table = EmbeddingTable(shop.ids, vectors, np.zeros(150, np.uint64), "v1")
        frame = neighbours.neighbours(table, index.build(vectors), 4)
        assert frame.schema == {
            "product_id": pl.String, "rank": pl.Int32, "neighbour_id": pl.String, "score": pl.Float32
        }  # fmt: skip
        assert frame["product_id"].to_list() == [f"p{row}" for row in range(150) for _ in range(4)]
        assert frame["rank"].to_list() == [1, 2, 3, 4] * 150
        products = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
        np.fill_diagonal(products, -2)
        best = np.argsort(-products, axis=1, kind="stable")[:, :4]
        assert frame["neighbour_id"].to_list() == [f"p{row}" for row in best.ravel()]

    def test_equal_products_do_not_crowd_out_others_and_masks_are_kept(self, monkeypatch):
        monkeypatch.setattr(neighbours, "_BLOCK", 3)
        vectors = np.ones((8, 2), np.float32) / np.float32(2**0.5)
        table = EmbeddingTable(catalogue({"title": [None] * 8}).ids, vectors, np.zeros(8, np.uint64), "v1")
        told = []
        frame = neighbours.neighbours(
            table, index.build(vectors), 2, progress=lambda done, total: told.append((done, total))
        )
        of = dict(frame.group_by("product_id", maintain_order=True).agg("neighbour_id").iter_rows())
        assert of["p0"] == ["p1", "p2"] and of["p1"] == ["p0", "p2"] and of["p7"] == ["p0", "p1"]
        assert told == [(3, 8), (6, 8), (8, 8)]
        allow = np.arange(8) == 5
        frame = neighbours.neighbours(table, index.build(vectors), 2, allow=allow)
        assert set(frame["neighbour_id"]) == {"p5"} and frame.height == 7 and set(frame["rank"]) == {1}

    def test_no_products(self):
        table = EmbeddingTable.empty(4, "v1")
        frame = neighbours.neighbours(table, index.build(table.vectors), 3)
        assert frame.height == 0 and frame.columns == ["product_id", "rank", "neighbour_id", "score"]
