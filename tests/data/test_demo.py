"""The drawn shop: the same bytes for the same seed, complete, and with something to learn in every part of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recsys.data import demo, schema
from recsys.data.demo import customers as people
from recsys.data.demo import generate as shop
from recsys.data.demo import products as goods
from recsys.data.demo.canvas import PAPER, SIZE, path
from recsys.data.demo.patterns import PATTERNS
from recsys.data.demo.styles import FAMILIES, KINDS, PATTERN_NAMES, STYLES
from recsys.errors import UsageError

PRODUCTS, USERS = 120, 150
END = shop.START + timedelta(days=goods.DAYS)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    demo.generate_shop(folder, products=PRODUCTS, users=USERS, seed=3)
    return folder


@pytest.fixture(scope="module")
def products(drawn: Path) -> pl.DataFrame:
    return pl.read_csv(drawn / "products.csv", infer_schema=False)


@pytest.fixture(scope="module")
def events(drawn: Path) -> pl.DataFrame:
    return pl.read_csv(drawn / "events.csv", infer_schema=False)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes_and_another_seed_another_shop(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        demo.generate_shop(tmp_path / name, products=24, users=20, seed=seed)
    one, two, other = (_digests(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one["products.csv"] != other["products.csv"]
    assert one["events.csv"] != other["events.csv"]


def test_drawing_again_leaves_nothing_of_the_earlier_shop(tmp_path: Path) -> None:
    demo.generate_shop(tmp_path / "a", products=40, users=5, seed=1)
    demo.generate_shop(tmp_path / "a", products=24, users=5, seed=1)
    demo.generate_shop(tmp_path / "b", products=24, users=5, seed=1)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")


def test_more_users_leave_the_products_as_they_are(drawn: Path, tmp_path: Path) -> None:
    demo.generate_shop(tmp_path, products=PRODUCTS, users=10, seed=3)
    assert (tmp_path / "products.csv").read_bytes() == (drawn / "products.csv").read_bytes()


def test_files_have_the_canonical_columns_and_fit_together(
    drawn: Path, products: pl.DataFrame, events: pl.DataFrame
) -> None:
    users = pl.read_csv(drawn / "users.csv", infer_schema=False)
    assert products.columns == [column.name for column in schema.PRODUCTS]
    assert events.columns == [column.name for column in schema.EVENTS]
    assert users.columns == [column.name for column in schema.USERS]
    assert products["product_id"].n_unique() == PRODUCTS
    assert users["user_id"].n_unique() == USERS
    assert set(events["product_id"]) <= set(products["product_id"])
    assert set(events["user_id"]) <= set(users["user_id"])
    assert set(events["event_type"]) == {"purchase", "view", "add_to_cart", "return"}
    for text in [*products["attributes"].drop_nulls(), *users["attributes"].drop_nulls()]:
        assert all(isinstance(value, str) for value in json.loads(text).values())
    bought = events.filter(pl.col("event_type") == "purchase")
    assert bought["order_id"].null_count() == 0
    assert (bought["value"].cast(pl.Float64) > 0).all()


def test_pictures_are_there_where_a_product_names_one(drawn: Path, products: pl.DataFrame) -> None:
    named = products["image"].drop_nulls().to_list()
    assert sorted(named) == sorted(path.name for path in (drawn / "images").iterdir())
    for name in named[:20]:
        with Image.open(drawn / "images" / name) as picture:
            assert picture.format == "JPEG"
            assert picture.size == (SIZE, SIZE)
            assert np.asarray(picture).std() > 8  # something is on it


def test_some_values_are_missing_and_most_are_not(products: pl.DataFrame) -> None:
    for column, most in (("image", 0.15), ("price", 0.15), ("category", 0.15), ("brand", 0.25), ("description", 0.2)):
        missing = products[column].null_count() / PRODUCTS
        assert 0 < missing < most, column


def test_both_languages_are_used_and_neither_always(products: pl.DataFrame) -> None:
    chinese = [bool(re.search(r"[\u4e00-\u9fff]", title)) for title in products["title"]]
    assert 0.15 < np.mean(chinese) < 0.5
    both = [
        bool(re.search(r"[\u4e00-\u9fff]", text)) and bool(re.search(r"[A-Za-z]{4}", text))
        for text in (products["title"] + " " + products["description"].fill_null("")).to_list()
    ]
    assert 0.6 < np.mean(both) < 1.0


def test_ninety_days_that_end_on_a_fixed_day(events: pl.DataFrame) -> None:
    times = [datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for text in events["occurred_at"]]
    assert shop.START <= min(times) < shop.START + timedelta(days=3)
    assert END - timedelta(days=2) < max(times) < END
    assert times == sorted(times)


def test_a_tenth_of_products_and_users_is_new_and_nothing_is_bought_before_it_exists() -> None:
    wares, customers, log = _made(seed=1)
    fresh = [good for good in wares if good.launched >= goods.DAYS - 7]
    assert len(fresh) == PRODUCTS // 10
    assert sum(person.joined >= goods.DAYS - 7 for person in customers) == USERS // 10
    start = int(shop.START.timestamp())
    for event in log:
        day = (event.second - start) // 86_400
        assert day >= wares[event.product].launched
        # A visit just after midnight may have begun the evening before.
        assert day >= customers[event.user].joined - 1


def test_what_is_used_up_is_bought_again_and_what_lasts_is_not() -> None:
    wares, _, log = _made(seed=2)
    times = Counter((event.user, event.product) for event in log if event.event_type == "purchase")
    again = {True: [], False: []}  # type: dict[bool, list[int]]
    for (_, good), count in times.items():
        again[wares[good].kind.again > 0].append(count)
    assert np.mean(again[True]) > 1.4
    assert np.mean(again[False]) < 1.1


def test_seasons_move_demand() -> None:
    wares, _, log = _made(seed=4)
    start = int(shop.START.timestamp())
    share = {}
    for name, wanted in (("summer", lambda trend: trend > 0.6), ("winter", lambda trend: trend < -0.9)):
        days = [
            (e.second - start) / 86_400
            for e in log
            if e.event_type == "purchase" and wanted(wares[e.product].kind.trend)
        ]
        share[name] = np.mean([day > goods.DAYS / 2 for day in days])
    everything = np.mean([(e.second - start) / 86_400 > goods.DAYS / 2 for e in log if e.event_type == "purchase"])
    assert share["winter"] + 0.1 < everything < share["summer"] - 0.02


def test_purchases_follow_the_hidden_style_across_kinds() -> None:
    """What a user buys is mostly of one style, far above chance, though it is of many kinds."""
    wares, _, log = _made(seed=5)
    baskets: dict[int, list[goods.DemoProduct]] = {}
    for event in log:
        if event.event_type == "purchase":
            baskets.setdefault(event.user, []).append(wares[event.product])
    many = [bought for bought in baskets.values() if len(bought) >= 8]
    assert len(many) > 40
    top = np.mean([max(Counter(good.style.name for good in bought).values()) / len(bought) for bought in many])
    kinds = np.mean([len({good.kind.category for good in bought}) for bought in many])
    assert top > 0.5  # by chance about a third
    assert kinds > 4


@pytest.mark.parametrize("view", ["pattern", "colour", "brand", "words"])
def test_each_view_gives_away_a_part_of_the_style_but_not_all(view: str) -> None:
    """Guessing the style from one view alone is far better than chance (1 in 6) and far from perfect."""
    wares = goods.generate_products(1200, np.random.default_rng(8))
    g = np.random.default_rng(9)
    seen: dict[str, list[str]] = {}
    for good in wares:
        words = " ".join(text or "" for text in goods.texts(good, g))
        phrase = next((m for style in STYLES for pair in style.moods for m in pair if m in words.lower()), "")
        value = {"pattern": good.pattern, "colour": good.family.english, "brand": good.brand or "", "words": phrase}[
            view
        ]
        seen.setdefault(value, []).append(good.style.name)
    right = sum(max(Counter(styles).values()) for styles in seen.values()) / len(wares)
    assert 0.4 < right < 0.95


def test_every_kind_pattern_and_colour_can_be_drawn_and_is_told_apart() -> None:
    """No two kinds look the same in the same cloth, no two patterns on the same thing."""
    wares = goods.generate_products(len(KINDS), np.random.default_rng(0))
    looks = [goods.draw_product(_dressed(good, "plain")).tobytes() for good in wares]
    assert len(set(looks)) == len(KINDS)
    assert len({goods.draw_product(_dressed(wares[0], name)).tobytes() for name in PATTERNS}) == len(PATTERNS)
    assert set(PATTERN_NAMES) == set(PATTERNS)
    for family in FAMILIES:
        cloth = PATTERNS["plain"](family.shades[0], family.shades[1], np.random.default_rng(0))
        assert cloth.size == (PAPER, PAPER)
        assert np.abs(np.asarray(cloth).mean((0, 1)) - family.shades[0]).max() < 4


def test_styles_name_only_patterns_and_colours_that_exist() -> None:
    names = {family.english for family in FAMILIES}
    for style in STYLES:
        assert set(style.patterns) <= set(PATTERNS)
        assert sum(style.patterns.values()) == pytest.approx(1)
        assert len(style.colours) == 4
        assert set(style.colours) <= names


def test_outlines_are_read_like_svg_paths() -> None:
    points = path("M 0 0 L 1 0 Q 1 1 0 1")
    assert points[:2] == [(0, 0), (1, 0)]
    assert points[-1] == (0, 1)
    assert points[8] == pytest.approx((0.75, 0.75))  # the middle of the curve


def test_a_shop_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 20 products"):
        demo.generate_shop(tmp_path / "none", products=3)
    assert not (tmp_path / "none").exists()


def _made(*, seed: int) -> tuple[list[goods.DemoProduct], list[people.DemoUser], list[people.DemoEvent]]:
    wares = goods.generate_products(PRODUCTS, np.random.default_rng(seed))
    customers = people.generate_users(USERS, np.random.default_rng(seed + 100))
    log = people.EventGenerator(wares, start=int(shop.START.timestamp()), g=np.random.default_rng(seed + 200))
    events = [event for who in customers for event in log.events(who, np.random.default_rng([seed, who.number]))]
    return wares, customers, sorted(events)


def _dressed(good: goods.DemoProduct, pattern: str) -> goods.DemoProduct:
    from dataclasses import replace

    return replace(good, pattern=pattern, drawing_seed=7)
