"""Lists and their reasons in shops where a simple answer is known."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import polars as pl
import pytest

import recsys
from tests.cases.small_shops import day, open_shop, purchases


def things(count, **columns):
    return [{"product_id": f"p{i:02d}", "title": f"thing {i}", "category": "A", **columns} for i in range(count)]


def test_lately_is_not_said_of_a_purchase_long_ago(tmp_path):
    g = random.Random(5)
    rows = [(f"u{u:03d}", f"p{g.randrange(30):02d}", g.randrange(300)) for u in range(60) for _ in range(8)]
    rows += [(f"looker{i:02d}", f"p{i:02d}", 0) for i in range(15)] + [
        (f"gone{i:02d}", f"p{i:02d}", 0) for i in range(9)
    ]
    views = [(f"looker{i:02d}", f"p{g.randrange(30):02d}", 299) for i in range(15) for _ in range(8)]
    settings = {"recommend.sources": ["sequence", "popular"]}
    shop = open_shop(tmp_path / "a", things(30), purchases(rows) + purchases(views, "view"), settings)
    frame = shop.recommend(k=12)
    said = {
        name: set(frame.filter(pl.col("user_id").str.starts_with(name))["reason"].to_list())
        for name in ("looker", "gone", "u0")
    }
    assert "fits what you looked at lately" in said["looker"] and "fits your past activity" in said["gone"]
    assert not any("bought lately" in reason for reason in said["looker"] | said["gone"])
    last_purchase = {user: max(number for other, _, number in rows if other == user) for user, _, _ in rows}
    for user, reason in frame.select("user_id", "reason").iter_rows():
        if reason == "fits what you bought lately":
            assert last_purchase[user] >= max(last_purchase.values()) - 28


def test_a_reason_tells_nothing_of_one_other_customer(tmp_path):
    """Only `a` bought x with y. A customer who bought x must not be told of it."""
    g = random.Random(1)
    rows = [(f"u{u:02d}", f"p{g.randrange(8):02d}", g.randrange(20)) for u in range(40) for _ in range(4)]
    rows += [("a", "p08", 3), ("a", "p09", 4), ("b", "p08", 18)]
    settings = {"recommend.sources": ["co_purchase", "transitions", "ease", "popular"]}
    open_shop(tmp_path / "a", things(10), purchases(rows), settings).close()
    sets = {}
    for user, product, _ in rows:
        sets.setdefault(user, set()).add(product)
    for least in (3, 1):
        shop = recsys.open(tmp_path / "a", settings={"privacy.min_customers": least})
        frame = shop.recommend(k=10)
        (hit,) = frame.filter((pl.col("user_id") == "b") & (pl.col("product_id") == "p09")).rows(named=True)
        told = hit["reason"], hit["reason_product_id"]
        assert told == (("from our range", None) if least == 3 else ("bought together with thing 8", "p08"))
        for row in frame.filter(pl.col("reason_product_id").is_not_null()).iter_rows(named=True):
            pair = {row["product_id"], row["reason_product_id"]}
            assert sum(pair <= own for own in sets.values()) >= least, row
        shop.close()


def test_popular_are_few_products_with_several_customers(tmp_path):
    rows = [(f"u{u:02d}", f"p{u % 12:02d}", 20) for u in range(48)] + [
        (f"v{u:02d}", f"p{u % 3:02d}", 20) for u in range(30)
    ]
    rows += [(f"w{u}", "p13", 20) for u in range(2)] + [(f"u{u:02d}", f"p{u % 5:02d}", 2) for u in range(48)]
    frame = open_shop(tmp_path / "a", things(14), purchases(rows)).recommend(["nobody"], k=14)
    said = dict(frame.select("product_id", "reason").rows())
    assert [product for product in said if said[product] == "popular this week"] == ["p00", "p01", "p02"]
    assert said["p05"] == "chosen by other customers" and said["p13"] == "from our range"


def test_products_that_are_not_available_are_listed_and_published_where_the_rules_say_so(tmp_path):
    g = random.Random(6)
    products = [{**row, "available": i % 2 == 0} for i, row in enumerate(things(12))]
    rows = [(f"u{u:02d}", f"p{g.randrange(12):02d}", g.randrange(30)) for u in range(30) for _ in range(4)]
    odd = pl.col("product_id").str.slice(1).cast(pl.Int64) % 2 == 1
    sources = ["sequence", "popular", "content", "cluster"]
    settings = {"rules.available_only": False, "recommend.sources": sources}
    shop = open_shop(tmp_path / "a", products, purchases(rows), settings)
    assert shop.recommend(["nobody"], k=12)["product_id"].n_unique() == 12
    frame = shop.recommend(k=12)
    assert frame.filter(odd).height > frame.height / 3
    shop.run()
    assert shop.audience(product="p01", k=5).height
    strict = recsys.open(tmp_path / "a", settings={"rules.available_only": True})
    assert not strict.recommend(k=12).filter(odd).height


def list_exists(pool, needed, k, caps, products):
    """Whether k of the products hold all caps with `needed` new ones; by trying all."""
    for chosen in itertools.combinations(pool, k):
        if sum(products[name]["new"] for name in chosen) < needed:
            continue
        if all(
            max(Counter(products[name][column] for name in chosen if products[name][column]).values(), default=0)
            <= most
            for column, most in caps.items()
        ):
            return True
    return False


@pytest.mark.parametrize("caps", [{"brand": 2}, {"brand": 1}, {"brand": 2, "category": 2}])
def test_new_products_and_caps_hold_together_wherever_a_list_can(tmp_path, caps):
    g = random.Random(21)
    products = [
        {
            "product_id": f"p{i:02d}",
            "title": f"{g.choice(['red', 'blue'])} {g.choice(['shirt', 'cup', 'lamp'])} {i}",
            "category": g.choice(["A", "B", "C", None]),
            "brand": g.choice(["X", "Y", "Z", None]),
            "created_at": day(59 if i % 4 == 0 else 0),
        }
        for i in range(16)
    ]
    rows = [
        (f"u{u:02d}", f"p{g.randrange(16):02d}", g.randrange(60)) for u in range(30) for _ in range(g.randrange(1, 5))
    ]
    settings = {"rules.min_new": 3, "rules.new_days": 10, "rules.caps": caps, "rules.seen": "exclude"}
    frame = open_shop(tmp_path / "a", products, purchases(rows), settings).recommend(k=5)
    by_id = {row["product_id"]: {**row, "new": i % 4 == 0} for i, row in enumerate(products)}
    bought = {}
    for user, product, _ in rows:
        bought.setdefault(user, set()).add(product)
    for user, own in sorted(bought.items()):
        chosen = frame.filter(pl.col("user_id") == user)["product_id"].to_list()
        allowed = [name for name in by_id if name not in own]
        needed = min(3, sum(by_id[name]["new"] for name in allowed))
        holds = list_exists(chosen, needed, 5, caps, by_id)
        assert holds == list_exists(allowed, needed, 5, caps, by_id), (user, chosen)


def test_a_shop_where_everybody_bought_once_gets_vectors_and_lists(tmp_path):
    g = random.Random(19)
    kinds = ("red sofa", "green desk", "blue lamp")
    products = [
        {"product_id": f"p{i:02d}", "title": f"{kinds[i % 3]} {i}", "category": "ABC"[i % 3]} for i in range(30)
    ]
    rows = [(f"u{u:03d}", f"p{int(30 * g.random() ** 2):02d}", g.randrange(60)) for u in range(200)]
    shop = open_shop(tmp_path / "a", products, purchases(rows), {"evaluate.test_days": 10}, train=False)
    shop.run()
    similar = shop.similar(product="p00", k=5)
    assert similar.height == 5
    frame = shop.recommend(["u000", "nobody"], k=8)
    assert frame.group_by("user_id").len()["len"].to_list() == [8, 8]
    assert frame.filter(pl.col("user_id") == "u000")["reason"].str.starts_with("because you bought").any()
    assert set(frame.filter(pl.col("user_id") == "nobody")["reason"]) & {
        "popular this week",
        "chosen by other customers",
    }
    assert shop.audience(product="p03", k=3).height
    shop.train("encoder")
    shop.train()
    found = shop.evaluate()
    assert "recsys" in set(found["system"])
    shop.report()


@pytest.mark.parametrize(
    ("products", "rows", "event_type"),
    [
        (1, [("u", "p00", 0)], "purchase"),
        (8, [(f"u{u}", f"p{u % 8:02d}", u) for u in range(40)], "purchase"),
        (8, [(f"u{u % 10}", f"p{u * 7 % 8:02d}", u) for u in range(60)], "view"),
        (4, [(f"u{u % 5}", f"p{u % 4:02d}", u) for u in range(20)], "return"),
        (8, [(f"u{u}", f"p{u % 8:02d}", 5) for u in range(20)], "purchase"),
    ],
    ids=["one of all", "one event each", "views", "returns", "one event each at one moment"],
)
def test_tiny_shops_end_with_lists_or_one_line(tmp_path, products, rows, event_type):
    shop = open_shop(tmp_path / "a", things(products), purchases(rows, event_type), train=event_type != "return")
    if event_type == "return":  # everything was sent back, so nothing is known of anybody
        with pytest.raises(recsys.RecsysError, match="the store holds no events"):
            shop.run()
        return
    frame = shop.recommend(k=50)
    assert frame.height and not frame["score"].is_nan().any()
    assert not frame.select("user_id", "product_id").is_duplicated().any()
    shop.run()
    assert shop.similar(product="p00", k=3).height == min(3, products - 1)
    try:
        shop.evaluate()
    except recsys.RecsysError as error:
        assert "\n" not in str(error)
