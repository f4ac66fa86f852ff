"""The Python face: the verbs of the command line on frames, errors of the same words, nothing held that others need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recsys
from recsys.data.demo import generate_shop
from recsys.errors import ConfigError, DataContractError, NotFoundError, UsageError
from tests.e2e.projects import SMALL, new_project, run_recsys

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


NUMBERS = pl.DataFrame({"user_id": ["1", "2", "3", "4"], "product_id": ["a", "b", "c", "abc"]})


@pytest.fixture
def numbered(tmp_path: Path) -> recsys.Shop:
    """A shop whose ids are the letters of other ids."""
    new_project(tmp_path / "numbered")
    opened = recsys.open(tmp_path / "numbered")
    events = NUMBERS.with_columns(pl.lit("2025-01-01").alias("occurred_at"))
    opened.ingest(products=NUMBERS.select("product_id", pl.lit("x").alias("title")), events=events)
    return opened


def test_one_string_is_one_user(numbered: recsys.Shop) -> None:
    assert numbered.forget("123").counts["users"] == 0
    assert numbered.check().counts["users"] == 4
    assert numbered.forget("3").counts["users"] == 1
    for users in (pl.Series(["1"]), ["2"]):
        assert numbered.forget(users).counts["users"] == 1
    for users in (123, [4], pl.Series([4]), np.array([4])):
        with pytest.raises(UsageError, match=r"write str\("):
            numbered.forget(users)
    with pytest.raises(UsageError, match="not a frame"):
        numbered.forget(NUMBERS)
    assert numbered.check().counts["users"] == 1


@given(ids=st.lists(st.text("0123u", min_size=1, max_size=4), min_size=1, max_size=3, unique=True), one=st.booleans())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_method_takes_a_string_as_one_id(
    ids: list[str], one: bool, shop: recsys.Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_, wanted = (ids[0], ids[:1]) if one else (ids, ids)
    seen: dict[str, list[str]] = {}

    def record(name: str, answer: object, at: int = 1) -> Callable[..., Any]:
        def function(*arguments: Any, **_: Any) -> Any:
            seen[name] = arguments[at]
            return answer

        return function

    with monkeypatch.context() as patch:
        patch.setattr("recsys.pipeline.forget.forget_users", record("forget", None))
        patch.setattr("recsys.pipeline.recommend.compute_recommendations", record("recommend", None))
        patch.setattr("recsys.pipeline.complete.predict_attributes", record("complete", (None, None)))
        patch.setattr("recsys.pipeline.similar.search_one", record("similar", None))
        patch.setattr("recsys.store.store.published_recommendations", record("recommendations", None))
        shop.forget(given_)
        shop.recommend(given_)
        shop.recommendations(given_)
        shop.complete(given_)
        shop.similar(product=given_, text=given_, image=given_, minus={"product": given_, "text": given_})
    query = seen.pop("similar")
    assert seen == dict.fromkeys(("forget", "recommend", "recommendations", "complete"), wanted)
    for kind, minus in (("product", False), ("text", False), ("image", False), ("product", True), ("text", True)):
        assert query.values(kind, minus=minus) == wanted  # type: ignore[attr-defined]


def test_frames_and_paths_are_not_mixed_up(shop: recsys.Shop, tmp_path: Path) -> None:
    for frame in (PRODUCTS, PRODUCTS.to_pandas(), [PRODUCTS]):
        with pytest.raises(UsageError, match="give frames as products=, events=, users="):
            shop.ingest(frame)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no such file or folder: products.csv"):
        shop.ingest("products.csv")
    for name in ("products", "events", "users"):
        with pytest.raises(UsageError, match=f"{name}: a frame is expected here, not the path 'x.csv'"):
            shop.ingest(**{name: "x.csv"})
    with pytest.raises(UsageError, match="images: a path is expected here"):
        shop.ingest(products=PRODUCTS, images=PRODUCTS)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="files or frames in one call"):
        shop.ingest(tmp_path, products=PRODUCTS)
    with pytest.raises(UsageError, match="frame: a frame is expected here, not the path 'x.csv'"):
        shop.embed("x.csv")


def test_columns_that_the_encoder_does_not_know_are_refused(shop: recsys.Shop) -> None:
    with pytest.raises(UsageError, match=r"no column 'titel' \(did you mean 'title'"):
        shop.embed(PRODUCTS.rename({"title": "titel"}))
    with pytest.raises(UsageError, match=r"'colr' \(did you mean 'colou?r'"):
        shop.embed(PRODUCTS.with_columns(colr=pl.lit("red")))
    colours = PRODUCTS.with_columns(colour=pl.Series(["red", "blue", "red"]), content_hash=pl.lit("x"))
    assert not np.array_equal(shop.embed(colours), shop.embed(PRODUCTS))


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
def test_k_is_at_least_one_everywhere(shop: recsys.Shop, k: Any) -> None:
    for call in (
        lambda: shop.similar(text="shoe", k=k),
        lambda: shop.similar(queries=pl.DataFrame({"text": ["shoe"]}), k=k),
        lambda: shop.audience(product="p0001", k=k),
        lambda: shop.recommend(k=k),
        lambda: shop.recommendations(k=k),
        lambda: shop.odd(k=k),
    ):
        with pytest.raises(UsageError, match="^k is "):
            call()


@pytest.mark.parametrize(
    "command",
    [["similar", "--text", "x"], ["audience", "p1"], ["recommend"], ["recommend", "--user", "u"], ["evaluate"]],
)
@pytest.mark.parametrize("k", ["0", "-3"])
def test_k_is_at_least_one_on_the_command_line(command: list[str], k: str, tmp_path: Path) -> None:
    outcome = run_recsys(*command, "-k", k, "-C", tmp_path)
    assert outcome.code == 2 and "-k" in outcome.err and len(outcome.err.strip().splitlines()) == 1


def test_other_arguments_of_a_wrong_kind(shop: recsys.Shop) -> None:
    with pytest.raises(UsageError, match="minus: give a dictionary"):
        shop.similar(text="shoe", minus="red")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="weights: give a dictionary"):
        shop.similar(text="shoe", weights="text")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="weight of 'text' is '12'; give a number"):
        shop.similar(text="shoe", weights={"text": "12"})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="product: give one id"):
        shop.audience(product=["p0001"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"write str\(7\)"):
        shop.similar(product=7)  # type: ignore[arg-type]


def test_nothing_is_opened_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for where, said in (
        (tmp_path / "gone", "project folder .*gone does not exist"),
        (str(tmp_path / "empty"), "no recsys.toml in .*empty"),
        (f"sqlite:///{tmp_path}/gone.db", "database .*gone.db does not exist"),
        ("sqlite:///gone.db", "database .*gone.db does not exist"),
    ):
        with pytest.raises(NotFoundError, match=said):
            recsys.open(where)
    with pytest.raises(NotFoundError, match="database"):
        recsys.open(tmp_path / "empty", settings={"database.url": "sqlite:///gone.db"})
    for arguments, said in (
        (["check", "-C", tmp_path / "gone"], "does not exist"),
        (["config", "show", "-C", tmp_path / "gone"], "does not exist"),
        (["check", "-C", tmp_path / "gone", "--database", "sqlite:///gone.db"], "does not exist"),
        *(
            ([*command, "--database", f"sqlite:///{tmp_path}/gone.db"], "gone.db does not exist")
            for command in (
                ["check"],
                ["runs", "list"],
                ["similar", "--text", "x"],
                ["recommend"],
                ["report"],
                ["publish"],
                ["ingest", tmp_path],
                ["forget", "u1", "--yes"],
            )
        ),
    ):
        outcome = run_recsys(*arguments)
        assert outcome.code == 2 and said in outcome.err and len(outcome.err.strip().splitlines()) == 1, outcome.err
    doctor = run_recsys("doctor", "--database", f"sqlite:///{tmp_path}/gone.db")
    assert "gone.db does not exist" in doctor.err
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    assert recsys.init(tmp_path / "made").artifacts["settings"] == tmp_path / "made/recsys.toml"
    with recsys.open(tmp_path / "made") as opened:
        assert opened.check().counts["products"] == 0


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
