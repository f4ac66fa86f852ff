"""The Python face: the verbs of the command line on frames, errors of the same words, nothing held that others need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recsys
from recsys.data.demo import generate_shop
from recsys.data.id_map import to_ids
from recsys.errors import ConfigError, DataContractError, NotFoundError, UsageError
from tests.e2e.projects import SMALL, new_project

PRODUCTS = pl.DataFrame(
    {"product_id": ["p1", "p2", "007"], "title": ["red shoe", "blue hat", "green sock"], "price": [10.5, 7.0, 3.0]}
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> recsys.Shop:
    """A tiny shop, filled and trained from Python alone."""
    folder = tmp_path_factory.mktemp("python")
    generate_shop(folder / "files", products=40, users=30, seed=1)
    project = new_project(folder / "project", settings=SMALL)
    with recsys.open(project) as opened:
        tables = {name: pl.read_csv(folder / "files" / f"{name}.csv") for name in ("products", "users")}
        events = pl.read_csv(folder / "files/events.csv").to_pandas()
        result = opened.ingest(**tables, events=events, images=folder / "files/images")
        assert result.counts["products"]["used"] == 40
        assert result.counts["images"]["used"] > 30
        assert opened.run().status == "done"
        return opened


def test_frames_come_out_as_documented(shop: recsys.Shop) -> None:
    found = shop.similar(text="red shoe", k=4)
    assert found.columns == ["product_id", "score", "title"]
    assert found.height == 4 and found["score"].is_sorted(descending=True)
    near = shop.similar(product="p0001", k=39)
    assert "p0001" not in near["product_id"].to_list()
    lists = shop.recommend(users=["u0001", "u0002"], k=3)
    assert lists.columns == ["user_id", "rank", "product_id", "score", "reason", "reason_product_id"]
    assert lists["user_id"].to_list() == ["u0001"] * 3 + ["u0002"] * 3
    assert lists["rank"].to_list() == [1, 2, 3] * 2
    everybody = shop.recommend()
    assert everybody["user_id"].n_unique() == 30
    assert shop.evaluate().columns == ["system", "slice", "metric", "value", "low", "high", "users"]


def test_published_lists_are_those_computed_now(shop: recsys.Shop) -> None:
    key = ["user_id", "rank", "product_id", "reason"]
    published = shop.recommendations().filter(pl.col("user_id") != "__default__").select(key)
    assert published.sort("user_id", "rank").equals(shop.recommend().select(key).sort("user_id", "rank"))


@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow"])
def test_any_product_can_be_embedded_stored_or_not(shop: recsys.Shop, kind: str) -> None:
    frame = {"polars": PRODUCTS, "pandas": PRODUCTS.to_pandas(), "arrow": PRODUCTS.to_arrow()}[kind]
    vectors = shop.embed(frame)
    assert vectors.shape == (3, 16) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors, shop.embed(PRODUCTS))
    assert np.array_equal(vectors[::-1], shop.embed(PRODUCTS.reverse()))
    assert shop.embed().shape == (40, 16)


def test_the_report_is_written_where_it_is_wanted(shop: recsys.Shop, tmp_path: Path) -> None:
    made = shop.report(tmp_path / "page.html")
    assert made.artifacts["report"] == tmp_path / "page.html" and (tmp_path / "page.json").is_file()
    with pytest.raises(UsageError, match="ends in .html"):
        shop.report(tmp_path / "page.txt")


def test_errors_are_those_of_the_command_line(shop: recsys.Shop, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="unknown product 'p00'"):
        shop.similar(product="p00")
    with pytest.raises(UsageError, match="nothing to look for"):
        shop.similar()
    with pytest.raises(recsys.RecsysError, match="price"):
        shop.similar(text="x", where="pirce < 3")
    with pytest.raises(ConfigError, match=r"did you mean 'recommend.k'"):
        recsys.open(tmp_path, settings={"recommend.kk": 3})
    with pytest.raises(UsageError, match="nothing to ingest"):
        shop.ingest()
    with pytest.raises(DataContractError, match="row 1.*price"):
        shop.ingest(products=PRODUCTS.with_columns(price=pl.lit("12,50")))
    with pytest.raises(UsageError, match="train encoder or ranker"):
        shop.train("encoders")


def test_a_database_url_is_enough_to_read_and_to_fill(tmp_path: Path) -> None:
    new_project(tmp_path)
    with recsys.open(f"sqlite:///{tmp_path}/recsys.db", settings={"recommend.k": 2}) as opened:
        result = opened.ingest(products=PRODUCTS)
        assert result.counts["products"]["used"] == 3
        assert opened.check().counts["products"] == 3
        with pytest.raises(NotFoundError, match="nothing is published"):
            opened.rollback()


def test_other_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="nope"):
        recsys.nope  # noqa: B018
    assert recsys.__version__


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_one_text_is_one_id(text: str) -> None:
    for values in (text, [text], (text,), {text}, pl.Series([text]), np.array([text], object), iter([text])):
        assert to_ids(values, name="users") == [text]


@pytest.mark.parametrize(
    "values", [5, [1, 2], [None], {"a": 1}, b"ab", pl.DataFrame({"a": ["x"]}), pl.Series([1]), [["u1"]]]
)
def test_what_is_no_text_is_no_id(values: object) -> None:
    with pytest.raises(UsageError, match="users: (give one id as text|ids are text)"):
        to_ids(values, name="users")


def test_a_text_is_never_read_as_its_letters(shop: recsys.Shop, tmp_path: Path) -> None:
    assert shop.recommend("u12", k=2)["user_id"].unique().to_list() == ["u12"]
    assert shop.recommendations("u1").height == 0 or shop.recommendations("u1")["user_id"].unique().to_list() == ["u1"]
    with pytest.raises(NotFoundError, match="zz"):
        shop.complete("zz")
    with pytest.raises(UsageError, match="no such file"):
        shop.ingest("nothing.csv")
    with pytest.raises(UsageError, match="give paths, not DataFrame"):
        shop.ingest(PRODUCTS)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="give a frame here"):
        shop.ingest(products="products.csv")
    assert shop.forget("xyz").counts["asked"] == 1


def test_lists_of_no_length_are_refused(shop: recsys.Shop) -> None:
    for call in (shop.recommend, shop.recommendations, shop.odd):
        for k in (0, -1):
            with pytest.raises(UsageError, match="must be 1 or more"):
                call(k=k)
    with pytest.raises(UsageError, match="must be 1 or more"):
        shop.similar(text="x", k=0)


def test_unknown_columns_of_products_to_embed_are_refused(shop: recsys.Shop) -> None:
    with pytest.raises(UsageError, match=r"embed: unknown column 'titel'; did you mean 'title'"):
        shop.embed(pl.DataFrame({"titel": ["Red cup"]}))


def test_nothing_is_opened_or_created_where_nothing_is(tmp_path: Path) -> None:
    for where in (tmp_path / "missing", tmp_path, f"sqlite:///{tmp_path}/missing.db"):
        with pytest.raises(NotFoundError, match="recsys init"):
            recsys.open(where)
    assert list(tmp_path.iterdir()) == []
