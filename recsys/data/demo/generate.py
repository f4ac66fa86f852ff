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
from recsys.data.demo.customers import DemoEvent, DemoUser, EventGenerator, generate_users
from recsys.data.demo.customers import attributes as user_attributes
from recsys.data.demo.products import DemoProduct, draw_product, generate_products, texts
from recsys.data.demo.products import attributes as product_attributes
from recsys.errors import UsageError

START = datetime(2025, 4, 1, tzinfo=UTC)
"""First midnight of the event log; fixed, so that the same seed gives the same bytes on any day."""

_NO_IMAGE_SHARE, _NO_PRICE_SHARE, _NO_CATEGORY_SHARE, _SOLD_OUT_SHARE = 0.04, 0.03, 0.05, 0.03
_MIN_PRODUCTS = 20


def generate_shop(folder: Path, *, products: int = 600, users: int = 500, seed: int = 0) -> None:
    """Write the files of a shop for `recsys ingest`; the same sizes and seed give the same bytes.

    Args:
        folder: output folder; created if missing, existing files are replaced.
        products: number of products, n.
        users: number of users, u.
        seed: seed of all random generators.

    Raises:
        UsageError: too few products or users.
    """
    if products < _MIN_PRODUCTS or users < 1:
        raise UsageError(f"a demo shop needs at least {_MIN_PRODUCTS} products and 1 user, not {products} and {users}")
    # One random generator per step: the number of users does not change the products, and vice versa.
    product_rng, text_rng, user_rng, attribute_rng, event_rng = (
        np.random.default_rng([seed, stream]) for stream in range(5)
    )
    demo_products = generate_products(products, product_rng)
    demo_users = generate_users(users, user_rng)
    event_generator = EventGenerator(demo_products, start=int(START.timestamp()), g=event_rng)
    # One random generator per user: the events of a user do not depend on those of earlier users.
    events = [
        event
        for user in demo_users
        for event in event_generator.events(user, np.random.default_rng([seed, 5, user.number]))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    product_table = _build_product_table(demo_products, text_rng)
    product_table.write_csv(folder / "products.csv")
    _build_user_table(demo_users, attribute_rng).write_csv(folder / "users.csv")
    _build_event_table(sorted(events), demo_products).write_csv(folder / "events.csv")
    image_names = dict(zip(product_table[schema.PRODUCT_ID], product_table[schema.IMAGE], strict=True))
    _write_images(
        folder / "images", [(product, image_names[_format_product_id(product.number)]) for product in demo_products]
    )


def _build_product_table(demo_products: Sequence[DemoProduct], rng: np.random.Generator) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for product in demo_products:
        title, description = texts(product, rng)
        no_image, no_price, no_category, sold_out = rng.random(4) < (
            _NO_IMAGE_SHARE,
            _NO_PRICE_SHARE,
            _NO_CATEGORY_SHARE,
            _SOLD_OUT_SHARE,
        )
        product_id = _format_product_id(product.number)
        rows.append(
            {
                schema.PRODUCT_ID: product_id,
                schema.TITLE: title,
                schema.DESCRIPTION: description,
                schema.BRAND: product.brand,
                schema.CATEGORY: None if no_category else product.kind.category,
                schema.PRICE: None if no_price else product.price,
                schema.CURRENCY: "EUR",
                schema.IMAGE: None if no_image else f"{product_id}.jpg",
                schema.AVAILABLE: "false" if sold_out else "true",
                schema.GROUP_ID: f"g{product.leader + 1:04d}",
                schema.ATTRIBUTES: _to_json(product_attributes(product, rng)),
                schema.CREATED_AT: _format_timestamp(int((START + timedelta(days=product.launched)).timestamp())),
            }
        )
    return _build_frame(schema.PRODUCTS, rows)


def _build_user_table(demo_users: Sequence[DemoUser], rng: np.random.Generator) -> pl.DataFrame:
    rows = [
        {schema.USER_ID: _format_user_id(user.number), schema.ATTRIBUTES: _to_json(user_attributes(user, rng))}
        for user in demo_users
    ]
    return _build_frame(schema.USERS, rows)


def _build_event_table(events: Iterable[DemoEvent], demo_products: Sequence[DemoProduct]) -> pl.DataFrame:
    rows = [
        {
            schema.USER_ID: _format_user_id(event.user),
            schema.PRODUCT_ID: _format_product_id(event.product),
            schema.EVENT_TYPE: event.event_type,
            schema.OCCURRED_AT: _format_timestamp(event.second),
            schema.QUANTITY: event.quantity,
            schema.VALUE: round(demo_products[event.product].price * event.quantity, 2) if event.order else None,
            schema.ORDER_ID: event.order or None,
        }
        for event in events
    ]
    return _build_frame(schema.EVENTS, rows)


def _build_frame(columns: Sequence[schema.Column], rows: list[dict[str, Any]]) -> pl.DataFrame:
    dtypes = {"number": pl.Float64}
    return pl.DataFrame(rows, schema={column.name: dtypes.get(column.kind, pl.String) for column in columns})


def _write_images(folder: Path, images: Sequence[tuple[DemoProduct, str | None]]) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("p[0-9]*.jpg"):
        if old.stem[1:].isdigit():
            old.unlink()

    def save_image(image: tuple[DemoProduct, str | None]) -> None:
        product, file_name = image
        if file_name is not None:
            draw_product(product).save(folder / file_name, quality=90)

    with ThreadPoolExecutor() as pool:  # drawing and compressing release the interpreter lock
        for _ in pool.map(save_image, images):
            pass


def _format_product_id(number: int) -> str:
    return f"p{number + 1:04d}"


def _format_user_id(number: int) -> str:
    return f"u{number + 1:04d}"


def _to_json(values: dict[str, str]) -> str | None:
    return json.dumps(values, ensure_ascii=False, sort_keys=True) if values else None


def _format_timestamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
