"""Draws a shop to try everything on: pictures, texts, prices, users with hidden tastes, ninety days of events.

In: a folder, sizes, a seed. Out: `products.csv`, `events.csv`, `users.csv` with the canonical columns, and `images/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.demo import customers as people
from recsys.data.demo import products as goods
from recsys.data.demo.customers import DemoEvent, DemoUser, EventGenerator
from recsys.data.demo.products import DemoProduct
from recsys.errors import UsageError

START = datetime(2025, 4, 1, tzinfo=UTC)
"""First midnight of the log. It is fixed, so that the same seed gives the same bytes on any day."""

_NO_PICTURE, _NO_PRICE, _NO_CATEGORY, _SOLD_OUT = 0.04, 0.03, 0.05, 0.03
_SMALLEST = 20


def generate_shop(folder: Path, *, products: int = 600, users: int = 500, seed: int = 0) -> None:
    """Draw a shop into `folder`, fit for `recsys ingest`; same sizes and seed, same bytes.

    Args:
        folder: where the files go; made if missing, files of an earlier drawing are replaced.
        products: number of products, n.
        users: number of users, u.
        seed: the one seed of everything.

    Raises:
        UsageError: too few products or users to make a shop.
    """
    if products < _SMALLEST or users < 1:
        raise UsageError(f"a demo shop needs at least {_SMALLEST} products and 1 user, not {products} and {users}")
    # A stream of numbers for each part: more users leave the products as they are, and the other way round.
    catalogue, words, persons, facts, appeal = (np.random.default_rng([seed, part]) for part in range(5))
    wares = goods.generate_products(products, catalogue)
    customers = people.generate_users(users, persons)
    log = EventGenerator(wares, start=int(START.timestamp()), g=appeal)
    # One stream a user, so that a product more or less does not shift what all later users do.
    events = [event for who in customers for event in log.events(who, np.random.default_rng([seed, 5, who.number]))]
    folder.mkdir(parents=True, exist_ok=True)
    table = _products(wares, words)
    table.write_csv(folder / "products.csv")
    _users(customers, facts).write_csv(folder / "users.csv")
    _events(sorted(events), wares).write_csv(folder / "events.csv")
    names = dict(zip(table[schema.PRODUCT_ID], table[schema.IMAGE], strict=True))
    _pictures(folder / "images", [(good, names[_product_id(good.number)]) for good in wares])


def _products(wares: Sequence[DemoProduct], g: np.random.Generator) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for good in wares:
        title, description = goods.texts(good, g)
        no_picture, no_price, no_category, sold_out = g.random(4) < (_NO_PICTURE, _NO_PRICE, _NO_CATEGORY, _SOLD_OUT)
        name = _product_id(good.number)
        rows.append(
            {
                schema.PRODUCT_ID: name,
                schema.TITLE: title,
                schema.DESCRIPTION: description,
                schema.BRAND: good.brand,
                schema.CATEGORY: None if no_category else good.kind.category,
                schema.PRICE: None if no_price else good.price,
                schema.CURRENCY: "EUR",
                schema.IMAGE: None if no_picture else f"{name}.jpg",
                schema.AVAILABLE: "false" if sold_out else "true",
                schema.GROUP_ID: f"g{good.leader + 1:04d}",
                schema.ATTRIBUTES: _json(goods.attributes(good, g)),
                schema.CREATED_AT: _moment(int((START + timedelta(days=good.launched)).timestamp())),
            }
        )
    return _frame(schema.PRODUCTS, rows)


def _users(customers: Sequence[DemoUser], g: np.random.Generator) -> pl.DataFrame:
    rows = [
        {schema.USER_ID: _user_id(person.number), schema.ATTRIBUTES: _json(people.attributes(person, g))}
        for person in customers
    ]
    return _frame(schema.USERS, rows)


def _events(events: Iterable[DemoEvent], wares: Sequence[DemoProduct]) -> pl.DataFrame:
    rows = [
        {
            schema.USER_ID: _user_id(event.user),
            schema.PRODUCT_ID: _product_id(event.good),
            schema.EVENT_TYPE: event.kind,
            schema.OCCURRED_AT: _moment(event.second),
            schema.QUANTITY: event.quantity,
            schema.VALUE: round(wares[event.good].price * event.quantity, 2) if event.order else None,
            schema.ORDER_ID: event.order or None,
        }
        for event in events
    ]
    return _frame(schema.EVENTS, rows)


def _frame(columns: Sequence[schema.Column], rows: list[dict[str, Any]]) -> pl.DataFrame:
    kinds = {"number": pl.Float64}
    return pl.DataFrame(rows, schema={column.name: kinds.get(column.kind, pl.String) for column in columns})


def _pictures(folder: Path, wanted: Sequence[tuple[DemoProduct, str | None]]) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("p*.jpg"):
        old.unlink()

    def save(one: tuple[DemoProduct, str | None]) -> None:
        good, name = one
        if name is not None:
            goods.draw_product(good).save(folder / name, quality=90)

    with ThreadPoolExecutor() as pool:  # drawing and compressing happen outside Python's lock
        for _ in pool.map(save, wanted):
            pass


def _product_id(number: int) -> str:
    return f"p{number + 1:04d}"


def _user_id(number: int) -> str:
    return f"u{number + 1:04d}"


def _json(values: dict[str, str]) -> str | None:
    return json.dumps(values, ensure_ascii=False, sort_keys=True) if values else None


def _moment(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
