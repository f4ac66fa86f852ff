"""Load the store as arrays for models and scorers; ids are mapped to rows here, once.

In: products, events and users by the SELECTs of sql/extract, and the image cache. Out: `Dataset`, or the catalogue
alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys.config import DataSettings
from recsys.data import attributes, schema
from recsys.data import parsing as parse
from recsys.data import rejected_rows as rejects
from recsys.data.catalogue import Catalogue, Images, content_hashes
from recsys.data.id_map import IdMap
from recsys.data.image_store import ImageStore
from recsys.data.interactions import Interactions, type_weights
from recsys.data.outlying_times import outlying_times
from recsys.data.returns import cancel_returned
from recsys.data.selection import selected_without_events
from recsys.errors import DataContractError
from recsys.execution import memory
from recsys.types import IntArray

if TYPE_CHECKING:
    from sqlalchemy import Engine

logger = logging.getLogger(__name__)
_NOT_HASHED = frozenset({schema.IMAGE, schema.CREATED_AT})
_BATCH = 2000
"""Rows converted to columns at a time, few enough to fit into the processor's cache."""
_TIME_FORMAT = "%Y-%m-%d %H:%M:%S%.6f"
_PURCHASED_PRODUCTS = "SELECT DISTINCT product_id FROM events"
_POSITIVE_SHARE = 0.6
"""Share of the largest rating from which on a rating is a sign of liking, unless `[data] positive_rating` says so."""
_MAX_QUANTITY = 1e6
"""Larger quantities count as this: sums of weights stay finite."""


@dataclass(frozen=True)
class Dataset:
    """Catalogue and interactions at one time.

    Attributes:
        catalogue: n products, sorted by id.
        interactions: events between the rows of `users` and of the catalogue.
        users: u user ids, sorted; users with events and users of the users table.
        fingerprint: 16 hex digits that depend on all of these.
        counts: numbers of products, users and events, and of the events that returns, ratings and dates leave out.
    """

    catalogue: Catalogue
    interactions: Interactions
    users: IdMap
    fingerprint: str
    counts: dict[str, Any]

    def users_to_score(self) -> IntArray:
        """Return the rows of the users who get recommendations, all of them: (u,) int64."""
        return np.arange(len(self.users), dtype=np.int64)


@memory.pause_gc()
def load(engine: Engine, settings: DataSettings, *, image_store: ImageStore) -> Dataset:
    """Load products, events and users.

    Args:
        engine: the database of the store.
        settings: event weights, and which products belong to the catalogue.
        image_store: the image cache.

    Raises:
        DataContractError: a product occurs twice (a changed SELECT).
        DatabaseUnavailableError: the database does not respond.
    """
    products = _load_products(engine)
    events = _cast_columns(_extract(engine, "events"), schema.EVENTS)
    user_ids = _cast_columns(_extract(engine, "users"), schema.USERS)[schema.USER_ID]
    selected = _select_products(products, settings, image_store, lambda: events[schema.PRODUCT_ID])
    left_out = products.height - selected.height
    catalogue = catalogue_from_frame(selected, image_store, typed=True)
    users = IdMap(pl.concat([user_ids, events[schema.USER_ID]]).drop_nulls().unique().sort().to_list())
    interactions, event_counts = _build_interactions(events, catalogue.ids, users, settings)
    return Dataset(
        catalogue,
        interactions,
        users,
        _fingerprint(catalogue, interactions, users),
        {
            "products": len(catalogue),
            "products_left_out": left_out,
            "products_sellable": int(catalogue.sellable.sum()),
            "products_with_picture": int(catalogue.images.present.sum()),
            "products_with_events": int((interactions.counts() > 0).sum()),
            "users": len(users),
            "users_with_events": int((np.diff(interactions.starts) > 0).sum()),
            "events": len(interactions),
            **event_counts,
            "first_event": int(interactions.time.min()) if len(interactions) else None,
            "last_event": int(interactions.time.max()) if len(interactions) else None,
        },
    )


@memory.pause_gc()
def load_catalogue(
    engine: Engine, settings: DataSettings, *, image_store: ImageStore, columns: Collection[str] | None = None
) -> Catalogue:
    """Load the catalogue of `load` without reading the events.

    Args, Raises: as `load`; `columns` are the canonical columns to read, all by default.
    """
    from recsys.db.engine import read_frame

    products = _load_products(engine, columns)
    selected = _select_products(
        products, settings, image_store, lambda: read_frame(engine, _PURCHASED_PRODUCTS)[schema.PRODUCT_ID]
    )
    return catalogue_from_frame(selected, image_store, typed=True)


def catalogue_from_frame(
    frame: pl.DataFrame, image_store: ImageStore | None = None, *, typed: bool = False
) -> Catalogue:
    """Create a catalogue from a frame of products, stored or not; rows keep their order.

    Args:
        frame: (n, c) canonical columns; others become attributes; without `product_id`, rows are numbered.
        image_store: the image cache; None for products without images.
        typed: whether the cells have their canonical types already (rows of the store).

    Raises:
        DataContractError: a product id occurs twice, or a cell cannot be parsed; the message names the row.
    """
    if not typed:
        frame = _validate_products(frame)
    ids = IdMap(frame[schema.PRODUCT_ID].to_list())
    columns = {column.name for column in schema.PRODUCTS if column.name in frame.columns} - {schema.ATTRIBUTES}
    catalogue_frame = frame.select([name for name in frame.columns if name in columns])
    product_ids = frame[schema.PRODUCT_ID]
    hashes = (
        image_store.hashes(product_ids)
        if image_store is not None
        else pl.repeat(None, len(ids), dtype=pl.String, eager=True)
    )
    catalogue_frame = catalogue_frame.with_columns(hashes.alias(schema.IMAGE_HASH))
    if schema.ATTRIBUTES in frame.columns:
        catalogue_frame = catalogue_frame.hstack(attributes.unfold(frame[schema.ATTRIBUTES]))
    sellable = np.ones(len(ids), np.bool_)
    if schema.AVAILABLE in frame.columns:
        sellable = frame[schema.AVAILABLE].fill_null(value=True).to_numpy().astype(np.bool_)
    images = image_store.images(ids) if image_store is not None else Images.empty(len(ids))
    return Catalogue(ids, catalogue_frame, sellable, images)


def _validate_products(frame: pl.DataFrame) -> pl.DataFrame:
    from recsys.data.presets import get_preset
    from recsys.data.validation import validate

    if schema.PRODUCT_ID not in frame.columns:
        frame = frame.with_columns(pl.int_range(pl.len()).cast(pl.String).alias(schema.PRODUCT_ID))
    (canonical,) = get_preset("csv").shape(iter([frame]), "products")
    checked = validate("products", canonical, source="the frame", settings=DataSettings(max_bad_fraction=0), now=0)
    if checked.bad_cells.height:
        raise DataContractError(f"products: {rejects.message(checked.bad_cells.row(0, named=True))}")
    if checked.accepted.height < frame.height:
        raise DataContractError("products: the frame holds the same product twice; leave one out")
    return checked.accepted


def _load_products(engine: Engine, columns: Collection[str] | None = None) -> pl.DataFrame:
    """Return all products in canonical types, sorted by the bytes of their ids."""
    selected: tuple[schema.Column, ...] = schema.PRODUCTS
    if columns is not None:  # always with the columns that decide whether a product belongs to the catalogue
        needed = {schema.PRODUCT_ID, schema.AVAILABLE, *columns}
        selected = tuple(column for column in selected if column.name in needed)
    products = _cast_columns(_extract(engine, "products", selected), selected)
    ids = products[schema.PRODUCT_ID]  # sorted already, unless the database has another collation
    return products if ids.null_count() == 0 and ids.is_sorted() else products.sort(schema.PRODUCT_ID)


def _select_products(
    products: pl.DataFrame, settings: DataSettings, pictures: ImageStore, bought: Callable[[], pl.Series]
) -> pl.DataFrame:
    """Return the products of the catalogue; `bought` is only called if purchases decide."""
    if settings.catalogue == "all":
        return products
    hashes = pictures.hashes(products[schema.PRODUCT_ID])
    belongs = pl.Series(selected_without_events(products[schema.AVAILABLE], hashes, settings.catalogue))
    if belongs.all():
        return products
    return products.filter(belongs | products[schema.PRODUCT_ID].is_in(bought().implode()))


def load_input_table(engine: Engine, table: str) -> pl.DataFrame:
    """Load the stored rows of an input table in canonical types."""
    return _cast_columns(_extract(engine, table), schema.TABLES[table])


def _extract(engine: Engine, table: str, columns: tuple[schema.Column, ...] = ()) -> pl.DataFrame:
    """Run a SELECT of sql/extract, restricted to `columns` if given."""
    from recsys.db.engine import stream

    query = (files("recsys.sql.extract") / f"{table}.sql").read_text(encoding="utf-8")
    if engine.dialect.name == "mysql":
        query = query.replace(" AS TEXT)", " AS CHAR)")  # MySQL has no CAST AS TEXT; elsewhere CHAR is one character
    if columns and columns != schema.TABLES[table]:
        query = (
            f"SELECT {', '.join(column.name for column in columns)} FROM (\n{query}\n) AS listed ORDER BY product_id"  # noqa: S608
        )
    return pl.concat(list(stream(engine, query, batch=_BATCH)), how="diagonal_relaxed", rechunk=True)


def _cast_columns(frame: pl.DataFrame, columns: tuple[schema.Column, ...]) -> pl.DataFrame:
    """Convert rows of the store to canonical types; they were validated on ingest."""
    series = []
    for column in columns:
        if column.name not in frame.columns:
            raise DataContractError(f"the SELECT has no column {column.name}; see sql/extract")
        cells = frame[column.name]
        if column.kind == "number":
            cells = parse.numbers(cells)
        elif column.kind == "bool":
            cells = parse.booleans(cells)
        elif column.kind == "time":
            cells = _parse_times(cells)
        else:
            cells = parse.text(cells)
        series.append(cells.alias(column.name))
    return pl.DataFrame(series)


def _parse_times(cells: pl.Series) -> pl.Series:
    """Parse times as `parse.times` does, but faster for the format in which the store writes them."""
    if cells.dtype == pl.String:
        timestamps = cells.str.to_datetime(_TIME_FORMAT, time_unit="us", strict=False)
        if timestamps.null_count() == cells.null_count():
            cells = timestamps
    return parse.times(cells)[0]


def _build_interactions(
    events: pl.DataFrame, products: IdMap, users: IdMap, settings: DataSettings
) -> tuple[Interactions, dict[str, int]]:
    """Map ids to rows and event types to codes, and decide what each event means; also return counts.

    Left out are events of unknown products, events with a mistyped date, and events that are no sign of liking: of a
    type with weight 0, and low ratings. Returns are no events but cancel purchases.
    """
    item = _map_rows(events[schema.PRODUCT_ID], products)
    counts = {"events_of_unknown_products": int((item < 0).sum())}
    codes = {name: code for code, name in enumerate(schema.EVENT_TYPES)}
    frame = events.with_columns(
        pl.Series("item", item),
        pl.Series("user", _map_rows(events[schema.USER_ID], users)),
        pl.col(schema.EVENT_TYPE).fill_null(schema.PURCHASE),
        pl.col(schema.QUANTITY).fill_null(1.0).clip(0.0, _MAX_QUANTITY),
    ).filter(pl.col("item") >= 0)
    frame = frame.with_columns(
        pl.col(schema.EVENT_TYPE).replace_strict(codes, return_dtype=pl.Int8).alias("code"),
        pl.col(schema.EVENT_TYPE)
        .replace_strict(settings.event_weights, default=0.0, return_dtype=pl.Float32)
        .alias("type_weight"),
    )
    frame, counts["events_with_outlying_time"] = _drop_outlying_times(frame)
    frame, counts["ratings_not_positive"] = _drop_low_ratings(frame, settings.positive_rating)
    no_taste = (pl.col("type_weight") <= 0) & ~pl.col(schema.EVENT_TYPE).is_in([schema.PURCHASE, schema.RETURN])
    n_before = frame.height
    frame = frame.filter(~no_taste)
    counts["events_without_weight"] = n_before - frame.height
    weights = type_weights(settings.event_weights)
    netted = cancel_returned(
        user=frame["user"].to_numpy(),
        item=frame["item"].to_numpy(),
        time=frame[schema.OCCURRED_AT].to_numpy(),
        event_type=frame["code"].to_numpy(),
        quantity=frame[schema.QUANTITY].to_numpy(),
        order=_order_codes(frame[schema.ORDER_ID]),
        type_weight=weights[schema.PURCHASE_CODE],
    )
    counts["returns"] = int((frame["code"] == schema.RETURN_CODE).sum())
    counts["returns_without_purchase"] = netted.n_unmatched
    counts["purchases_returned"] = netted.n_cancelled
    counts["purchases_returned_in_part"] = netted.n_reduced
    weight = frame["type_weight"].to_numpy() * netted.quantity.astype(np.float32)
    keep = netted.keep
    interactions = Interactions.from_events(
        user=frame["user"].to_numpy()[keep],
        item=frame["item"].to_numpy()[keep],
        time=frame[schema.OCCURRED_AT].to_numpy()[keep],
        event_type=frame["code"].to_numpy()[keep],
        weight=weight[keep],
        n_users=len(users),
        n_items=len(products),
        type_weights=weights,
        versions=netted.versions,
    )
    return interactions, counts


def _drop_outlying_times(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Leave out events with a mistyped date, with a warning; also return how many."""
    outlying = outlying_times(frame["user"].to_numpy(), frame[schema.OCCURRED_AT].to_numpy())
    n_outlying = int(outlying.sum())
    if not n_outlying:
        return frame, 0
    example = frame.filter(pl.Series(outlying)).row(0, named=True)
    logger.warning(
        "events: %s left out, because their times lie far from those of all others, e.g. user '%s', product '%s' "
        "at %s; correct the times and ingest them again",
        f"{n_outlying:,}",
        example[schema.USER_ID],
        example[schema.PRODUCT_ID],
        datetime.fromtimestamp(example[schema.OCCURRED_AT], UTC).isoformat(),
    )
    return frame.filter(~pl.Series(outlying)), n_outlying


def _drop_low_ratings(frame: pl.DataFrame, positive_rating: float | None) -> tuple[pl.DataFrame, int]:
    """Leave out ratings below `positive_rating`; ratings without a value stay; also return how many were left out."""
    is_rating = pl.col(schema.EVENT_TYPE) == schema.RATING
    value = pl.col(schema.VALUE)
    largest = frame.filter(is_rating & value.is_finite())[schema.VALUE].max()
    if not isinstance(largest, float):
        return frame, 0
    limit = _POSITIVE_SHARE * largest if positive_rating is None else positive_rating
    kept = frame.filter(~(is_rating & (value < limit)).fill_null(value=False))
    return kept, frame.height - kept.height


def _order_codes(orders: pl.Series) -> IntArray:
    """Return a code per order id, -1 = none: (e,) int64."""
    if orders.null_count() == len(orders):
        return np.full(len(orders), -1, np.int64)
    codes = orders.rank("dense").cast(pl.Int64)
    return codes.fill_null(-1).to_numpy()


def _map_rows(texts: pl.Series, ids: IdMap) -> IntArray:
    """Map ids to rows by a join, which is faster than `IdMap.rows` for many ids."""
    id_frame = pl.DataFrame({"id": pl.Series(ids.texts, dtype=pl.String), "row": np.arange(len(ids), dtype=np.int64)})
    joined = texts.alias("id").to_frame().join(id_frame, on="id", how="left", maintain_order="left")
    return joined["row"].fill_null(-1).to_numpy()


def _fingerprint(catalogue: Catalogue, interactions: Interactions, users: IdMap) -> str:
    digest = blake2b(digest_size=8)
    columns = [name for name in catalogue.frame.columns if name not in _NOT_HASHED]
    digest.update("\x1f".join(columns).encode())
    digest.update(content_hashes(catalogue.frame, columns).tobytes())
    digest.update("\x1f".join(users.texts).encode())
    for array in (
        interactions.user,
        interactions.item,
        interactions.time,
        interactions.event_type,
        interactions.weight,
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    if interactions.versions is not None:
        for field in fields(interactions.versions):
            digest.update(np.ascontiguousarray(getattr(interactions.versions, field.name)).tobytes())
    return digest.hexdigest()
