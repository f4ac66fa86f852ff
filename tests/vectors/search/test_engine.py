from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recsys.config import ImageSettings
from recsys.data.catalogue import Catalogue
from recsys.errors import ModelFolderError, NotFoundError, UsageError
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.index import build as index
from recsys.vectors.index.build import VectorIndex
from recsys.vectors.search import neighbours, variants
from recsys.vectors.search.bm25 import Bm25Index
from recsys.vectors.search.engine import QueryEncoder, SearchEngine, SearchOptions
from recsys.vectors.search.query import MAX_CHARACTERS, Query
from tests.suites import clustered
from tests.vectors.shops import StubModel, catalogue


def similar(
    query: Query,
    *,
    catalogue: Catalogue,
    table: EmbeddingTable,
    index: VectorIndex,
    model_loader: Callable[[], QueryEncoder],
    k: int = 10,
    where: str | None = None,
    images: ImageSettings | None = None,
    lexical_loader: Callable[[], Bm25Index] | None = None,
    way: SearchOptions | None = None,
) -> pl.DataFrame:
    """The answer to one query, with defaults for what a test does not care about."""
    finder = SearchEngine(
        catalogue,
        table,
        index=index,
        model_loader=model_loader,
        lexical_loader=lexical_loader or (lambda: Bm25Index.build(catalogue)),
        images=images or ImageSettings(),
        options=way or SearchOptions(),
    )
    (found,) = finder.search([query], k, where=[where])
    if isinstance(found, UsageError):
        raise found
    return found


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

    def encode_images(self, pixels):
        assert pixels.dtype == np.uint8 and pixels.shape == (1, 3, 16, 16)
        return np.array([[1, 0]], np.float32)


def never():
    raise AssertionError("the model is not needed")


def ask(query, *, shop=None, table=None, loader=PlaneModel, k=2, **options):
    shop = shop if shop is not None else catalogue(COLUMNS)
    if table is None:
        table = EmbeddingTable(shop.ids, PLANE, np.zeros(5, np.uint64), "v1")
    built = index.build_index(table.vectors)
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
    less_up = Query(product="0030", minus={"text": "up"})
    assert ask(less_up)["product_id"].to_list() == ["0010", "0020"]
    assert ask(Query(product=["0010", "0040"]))["product_id"].to_list() == ["0020", "0030"]
    assert ask(Query(product=["0010", "0040"], weights={"product": [9, 1]}))["product_id"][0] == "0020"
    assert ask(Query(product="0040", text=["up", "left"]))["product_id"][0] == "0030"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("photo.jpg", None, "there is no image"),
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
        lambda: Query(text="up", weights={"text": -1}),
        lambda: Query(text="up", weights={"text": True}),
        lambda: Query(text="up", weights={"image": 1}),
        lambda: Query(text=["up", "down"], weights={"text": [1, 2, 3]}),
        lambda: Query(product="0010", text=""),
        lambda: Query(product="0010", minus={"text": " "}),
        lambda: Query(product="0010", minus={"colour": "red"}),
        lambda: Query(minus={"text": "up"}),
        lambda: Query(product=[]),
        lambda: Query(product=7),
        lambda: Query(text="a\0b"),
        lambda: Query(text="\ud800"),
        lambda: Query(product=["0010"] * 101),
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
    everything = SearchOptions(sellable_only=False)
    assert ask(Query(product="0010"), shop=shop, way=everything)["product_id"].to_list() == ["0020", "0030"]


def test_a_very_long_text_is_cut_and_said_so(caplog):
    query = Query(text="up " * 350_000)
    assert query.plus_parts[0].value == ("up " * 350_000)[:MAX_CHARACTERS]
    assert "1049999 characters; only the first 2000 are read" in caplog.text


def test_what_is_not_wanted_is_left_out():
    assert ask(Query(product="0030", minus={"product": "0040"}), k=9)["product_id"].to_list() == [
        "0010",
        "0020",
        "0050",
    ]
    with pytest.raises(UsageError, match="nothing of the query is left"):
        ask(Query(text="up", minus={"text": "up"}))


def test_three_products_are_a_catalogue():
    shop = catalogue({"product_id": ["a", "b", "c"], "title": ["red boots", "red hat", "scarf"]})
    table = EmbeddingTable(shop.ids, PLANE[:3], np.zeros(3, np.uint64), "v1")
    assert ask(Query(product="a"), shop=shop, table=table, k=10)["product_id"].to_list() == ["b", "c"]
    words = ask(Query(text="red"), shop=shop, table=table, loader=never, k=10, way=SearchOptions(mode="lexical"))
    assert words["product_id"].to_list() == ["a", "b"]
    frame = neighbours.nearest_neighbours(table, index.build_index(table.vectors), 20)
    assert frame.group_by("product_id").len()["len"].to_list() == [2, 2, 2]


class TestVariants:
    COLUMNS = {**COLUMNS, "group_id": ["boots", "boots", None, None, "boots"]}

    def test_one_stands_for_all_and_a_products_own_are_not_its_neighbours(self):
        shop = catalogue(self.COLUMNS)
        assert ask(Query(product="0040"), shop=shop, k=3)["product_id"].to_list() == ["0030", "0020"]
        assert ask(Query(product="0020"), shop=shop, k=3)["product_id"].to_list() == ["0030", "0040"]

    def test_all_of_them_when_asked(self):
        shop, way = catalogue(self.COLUMNS), SearchOptions(variants=True)
        assert ask(Query(product="0020"), shop=shop, k=3, way=way)["product_id"].to_list() == ["0030", "0010", "0040"]

    def test_the_best_that_may_be_found_stands_for_them(self):
        shop = catalogue(self.COLUMNS, sellable=[True, False, True, True, True])
        assert ask(Query(product="0040"), shop=shop, k=3)["product_id"].to_list() == ["0030", "0010"]
        found = ask(Query(product="0040"), shop=shop, k=3, where="price is null")
        assert found["product_id"].to_list() == ["0050"]


class TestWords:
    def test_by_words_no_model_is_needed_and_only_those_that_have_one_are_found(self):
        found = ask(Query(text="Boots red"), loader=never, k=4, way=SearchOptions(mode="lexical"))
        assert found["product_id"].to_list() == ["0010", "0020"] and found["score"][0] > found["score"][1] > 0
        found = ask(Query(text="boots", minus={"text": "red"}), loader=never, k=4, way=SearchOptions(mode="lexical"))
        assert found["product_id"].to_list() == ["0020"]
        with pytest.raises(UsageError, match="lexical search takes texts only"):
            ask(Query(product="0010", text="red"), loader=never, way=SearchOptions(mode="lexical"))

    def test_both_halves_keep_to_conditions_and_sellable(self):
        class Up(PlaneModel):
            def encode_text(self, texts):
                return np.array([[0, 1]] * len(texts), np.float32)

        shop = catalogue(COLUMNS, sellable=[True, False, True, True, True])
        way = SearchOptions(mode="hybrid")
        found = ask(Query(text="boots"), shop=shop, loader=Up, k=5, way=way)
        assert found["product_id"].to_list() == ["0010", "0040", "0030", "0050"]  # third by vector, first by word
        np.testing.assert_allclose(found["score"], [1 / 63 + 1 / 61, 1 / 61, 1 / 62, 1 / 64], rtol=1e-6)
        found = ask(Query(text="boots"), shop=shop, loader=Up, k=5, way=way, where="price > 15")
        assert found["product_id"].to_list() == ["0040", "0030"]
        by_product = ask(Query(product="0010"), loader=never, way=way)  # no text: by vector
        assert by_product["product_id"].to_list() == ["0020", "0030"]


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
        frame = neighbours.nearest_neighbours(table, index.build_index(vectors), 4)
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
        frame = neighbours.nearest_neighbours(
            table, index.build_index(vectors), 2, progress=lambda done, total: told.append((done, total))
        )
        of = dict(frame.group_by("product_id", maintain_order=True).agg("neighbour_id").iter_rows())
        assert of["p0"] == ["p1", "p2"] and of["p1"] == ["p0", "p2"] and of["p7"] == ["p0", "p1"]
        assert told == [(3, 8), (6, 8), (8, 8)]
        allow = np.arange(8) == 5
        frame = neighbours.nearest_neighbours(table, index.build_index(vectors), 2, allow=allow)
        assert set(frame["neighbour_id"]) == {"p5"} and frame.height == 7 and set(frame["rank"]) == {1}

    @pytest.mark.parametrize("kind", ["flat", "ivf"])
    def test_variants_stand_for_each_other_and_every_list_is_full(self, kind, monkeypatch):
        monkeypatch.setattr(neighbours, "_BLOCK", 64)
        g = np.random.default_rng(1)
        vectors = clustered(200, 6, seed=1)
        group = [None if row % 5 == 0 else f"g{row % 7 if row % 2 else row // 20}" for row in range(200)]
        shop = catalogue({"title": [None] * 200, "group_id": group})
        allow = g.random(200) < 0.7
        table = EmbeddingTable(shop.ids, vectors, np.zeros(200, np.uint64), "v1")
        kin = variants.variant_groups(shop)
        frame = neighbours.nearest_neighbours(table, index.build_index(vectors, kind), 15, allow=allow, groups=kin)
        of = dict(frame.group_by("product_id", maintain_order=True).agg("neighbour_id").iter_rows())
        for row in range(200):
            close = np.argsort(-(vectors.astype(np.float64) @ vectors[row]), kind="stable")
            seen, wanted = {kin[row]}, []
            for other in close:
                if allow[other] and kin[other] not in seen:
                    seen.add(kin[other])
                    wanted.append(f"p{other}")
            if kind == "flat":
                assert of[f"p{row}"] == wanted[:15]
            assert len(of[f"p{row}"]) == 15
            assert len({kin[int(name[1:])] for name in of[f"p{row}"]} | {kin[row]}) == 16

    def test_no_products(self):
        table = EmbeddingTable.empty(4, "v1")
        frame = neighbours.nearest_neighbours(table, index.build_index(table.vectors), 3)
        assert frame.height == 0 and frame.columns == ["product_id", "rank", "neighbour_id", "score"]
