"""Load the store as arrays for models and scorers; ids are mapped to rows here, once.

In: products, events and users by the SELECTs of sql/extract, and the image cache. Out: `Dataset`, or the catalogue
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys.config import DataSettings
from recsys.data import attributes, schema
from recsys.data import parsing as parse
from recsys.data.catalogue import Catalogue, Images, content_hashes
from recsys.data.id_map import IdMap
from recsys.data.image_store import ImageStore
from recsys.data.interactions import Interactions
from recsys.data.selection import selected_without_events
from recsys.errors import DataContractError
from recsys.execution import memory
from recsys.types import IntArray

if TYPE_CHECKING:
    from sqlalchemy import Engine

_NOT_HASHED = frozenset({schema.IMAGE, schema.CREATED_AT})
_BATCH = 2000
"""Rows converted to columns at a time, few enough to fit into the processor's cache."""
_TIME_FORMAT = "%Y-%m-%d %H:%M:%S%.6f"
_PURCHASED_PRODUCTS = "SELECT DISTINCT product_id FROM events"


@dataclass(frozen=True)
class Dataset:
    """Catalogue and interactions at one time.

    Attributes:
        catalogue: n products, sorted by id.
        interactions: events between the rows of `users` and of the catalogue.
        users: u user ids, sorted; users with events and users of the users table.
        fingerprint: 16 hex digits that depend on all of these.
        counts: numbers of products, users and events.
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
    interactions, n_unknown = _build_interactions(events, catalogue.ids, users, settings)
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
            "events_of_unknown_products": n_unknown,
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
) -> tuple[Interactions, int]:
    """Map ids to rows and event types to codes; also return the number of events of unknown products."""
    item = _map_rows(events[schema.PRODUCT_ID], products)
    n_unknown = int((item < 0).sum())
    events, item = events.filter(pl.Series(item >= 0)), item[item >= 0]
    event_types = events[schema.EVENT_TYPE].fill_null(schema.PURCHASE)
    codes = {name: code for code, name in enumerate(schema.EVENT_TYPES)}
    event_codes = event_types.replace_strict(codes, return_dtype=pl.Int8)
    type_weight = event_types.replace_strict(settings.event_weights, default=1.0, return_dtype=pl.Float32)
    weight = type_weight * events[schema.QUANTITY].fill_null(1.0).cast(pl.Float32)
    interactions = Interactions.from_events(
        user=_map_rows(events[schema.USER_ID], users),
        item=item,
        time=events[schema.OCCURRED_AT].to_numpy(),
        event_type=event_codes.to_numpy(),
        weight=weight.to_numpy(),
        n_users=len(users),
        n_items=len(products),
    )
    return interactions, n_unknown


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
    return digest.hexdigest()
