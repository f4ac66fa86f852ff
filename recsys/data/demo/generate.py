"""Generate a synthetic shop: images, texts, prices, users with hidden preferences, ninety days of events.

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
from recsys.data.demo import customers
from recsys.data.demo import products as products_
from recsys.data.demo.customers import DemoEvent, DemoUser, EventGenerator
from recsys.data.demo.products import DemoProduct
from recsys.errors import UsageError

START = datetime(2025, 4, 1, tzinfo=UTC)
"""First midnight of the event log; fixed, so that the same seed gives the same bytes on any day."""

_NO_IMAGE, _NO_PRICE, _NO_CATEGORY, _SOLD_OUT = 0.04, 0.03, 0.05, 0.03
_MIN_PRODUCTS = 20


def generate_shop(folder: Path, *, products: int = 600, users: int = 500, seed: int = 0) -> None:
    """Write the files of a shop for `recsys ingest`; the same sizes and seed give the same bytes.

    Args:
        folder: output folder; created if missing, earlier files are replaced.
        products: number of products, n.
        users: number of users, u.
        seed: seed of all random generators.

    Raises:
        UsageError: too few products or users.
    """
    if products < _MIN_PRODUCTS or users < 1:
        raise UsageError(f"a demo shop needs at least {_MIN_PRODUCTS} products and 1 user, not {products} and {users}")
    # One random generator for each part: the number of users does not change the products, and vice versa.
    product_rng, text_rng, user_rng, attribute_rng, event_rng = (
        np.random.default_rng([seed, part]) for part in range(5)
    )
    demo_products = products_.generate_products(products, product_rng)
    demo_users = customers.generate_users(users, user_rng)
    generator = EventGenerator(demo_products, start=int(START.timestamp()), g=event_rng)
    # One random generator for each user, so that the events of a user do not depend on those of earlier users.
    events = [
        event for user in demo_users for event in generator.events(user, np.random.default_rng([seed, 5, user.number]))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    table = _products(demo_products, text_rng)
    table.write_csv(folder / "products.csv")
    _users(demo_users, attribute_rng).write_csv(folder / "users.csv")
    _events(sorted(events), demo_products).write_csv(folder / "events.csv")
    names = dict(zip(table[schema.PRODUCT_ID], table[schema.IMAGE], strict=True))
    _write_images(folder / "images", [(product, names[_product_id(product.number)]) for product in demo_products])


def _products(demo_products: Sequence[DemoProduct], g: np.random.Generator) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for product in demo_products:
        title, description = products_.texts(product, g)
        no_image, no_price, no_category, sold_out = g.random(4) < (_NO_IMAGE, _NO_PRICE, _NO_CATEGORY, _SOLD_OUT)
        name = _product_id(product.number)
        rows.append(
            {
                schema.PRODUCT_ID: name,
                schema.TITLE: title,
                schema.DESCRIPTION: description,
                schema.BRAND: product.brand,
                schema.CATEGORY: None if no_category else product.kind.category,
                schema.PRICE: None if no_price else product.price,
                schema.CURRENCY: "EUR",
                schema.IMAGE: None if no_image else f"{name}.jpg",
                schema.AVAILABLE: "false" if sold_out else "true",
                schema.GROUP_ID: f"g{product.leader + 1:04d}",
                schema.ATTRIBUTES: _json(products_.attributes(product, g)),
                schema.CREATED_AT: _timestamp(int((START + timedelta(days=product.launched)).timestamp())),
            }
        )
    return _frame(schema.PRODUCTS, rows)


def _users(demo_users: Sequence[DemoUser], g: np.random.Generator) -> pl.DataFrame:
    rows = [
        {schema.USER_ID: _user_id(user.number), schema.ATTRIBUTES: _json(customers.attributes(user, g))}
        for user in demo_users
    ]
    return _frame(schema.USERS, rows)


def _events(events: Iterable[DemoEvent], demo_products: Sequence[DemoProduct]) -> pl.DataFrame:
    rows = [
        {
            schema.USER_ID: _user_id(event.user),
            schema.PRODUCT_ID: _product_id(event.product),
            schema.EVENT_TYPE: event.event_type,
            schema.OCCURRED_AT: _timestamp(event.second),
            schema.QUANTITY: event.quantity,
            schema.VALUE: round(demo_products[event.product].price * event.quantity, 2) if event.order else None,
            schema.ORDER_ID: event.order or None,
        }
        for event in events
    ]
    return _frame(schema.EVENTS, rows)


def _frame(columns: Sequence[schema.Column], rows: list[dict[str, Any]]) -> pl.DataFrame:
    dtypes = {"number": pl.Float64}
    return pl.DataFrame(rows, schema={column.name: dtypes.get(column.kind, pl.String) for column in columns})


def _write_images(folder: Path, images: Sequence[tuple[DemoProduct, str | None]]) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("p[0-9]*.jpg"):
        if old.stem[1:].isdigit():
            old.unlink()

    def save(image: tuple[DemoProduct, str | None]) -> None:
        product, name = image
        if name is not None:
            products_.draw_product(product).save(folder / name, quality=90)

    with ThreadPoolExecutor() as pool:  # drawing and compressing release the interpreter lock
        for _ in pool.map(save, images):
            pass


def _product_id(number: int) -> str:
    return f"p{number + 1:04d}"


def _user_id(number: int) -> str:
    return f"u{number + 1:04d}"


def _json(values: dict[str, str]) -> str | None:
    return json.dumps(values, ensure_ascii=False, sort_keys=True) if values else None


def _timestamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
