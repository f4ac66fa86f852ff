"""What the store holds, as the model sees it: ids become rows here, once.

In: a store's products, events and users by the SELECTs of sql/extract, and the picture cache. Out: `Dataset`, or the
catalogue alone.
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
from recsys.errors import DataContractError
from recsys.execution import memory
from recsys.types import IntArray

if TYPE_CHECKING:
    from sqlalchemy import Engine

_NOT_HASHED = frozenset({schema.IMAGE, schema.CREATED_AT})
_BATCH = 2000
"""Rows turned into columns at a time: few enough to still lie in the processor's cache."""
_MOMENT = "%Y-%m-%d %H:%M:%S%.6f"
_BOUGHT = "SELECT DISTINCT product_id FROM events"


@dataclass(frozen=True)
class Dataset:
    """Catalogue and interactions of one moment.

    Attributes:
        catalogue: n products, sorted by id.
        interactions: events between the rows of `users` and of the catalogue.
        users: u user ids, sorted; users with events and users of the users table.
        fingerprint: 16 hex digits that change when anything above does.
        counts: how much there is of what.
    """

    catalogue: Catalogue
    interactions: Interactions
    users: IdMap
    fingerprint: str
    counts: dict[str, Any]

    def users_to_score(self) -> IntArray:
        """Rows of the users that shall have a list: all of them, (u,) int64."""
        return np.arange(len(self.users), dtype=np.int64)


@memory.pause_gc()
def load(engine: Engine, settings: DataSettings, *, pictures: ImageStore) -> Dataset:
    """Read a store.

    Args:
        engine: the store's database.
        settings: what an event is worth, and which products belong to the catalogue.
        pictures: the picture cache.

    Raises:
        DataContractError: the same product twice (a changed SELECT).
        DatabaseUnavailableError: the database does not answer.
    """
    products = _products(engine)
    events = _typed(_extract(engine, "events"), schema.EVENTS)
    listed = _typed(_extract(engine, "users"), schema.USERS)[schema.USER_ID]
    kept = _kept(products, settings, pictures, lambda: events[schema.PRODUCT_ID])
    left_out = products.height - kept.height
    catalogue = catalogue_of(kept, pictures, typed=True)
    users = IdMap(pl.concat([listed, events[schema.USER_ID]]).drop_nulls().unique().sort().to_list())
    interactions, lost = _interactions(events, catalogue.ids, users, settings)
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
            "events_of_unknown_products": lost,
            "first_event": int(interactions.time.min()) if len(interactions) else None,
            "last_event": int(interactions.time.max()) if len(interactions) else None,
        },
    )


@memory.pause_gc()
def load_catalogue(
    engine: Engine, settings: DataSettings, *, pictures: ImageStore, columns: Collection[str] | None = None
) -> Catalogue:
    """Read a store's products alone: the catalogue that `load` gives, without reading the log of events.

    Args, Raises: as `load`; `columns` names the canonical columns that are read, all when it is not given.
    """
    from recsys.db.engine import read_frame

    products = _products(engine, columns)
    kept = _kept(products, settings, pictures, lambda: read_frame(engine, _BOUGHT)[schema.PRODUCT_ID])
    return catalogue_of(kept, pictures, typed=True)


def catalogue_of(frame: pl.DataFrame, pictures: ImageStore | None = None, *, typed: bool = False) -> Catalogue:
    """Make a catalogue of any products, stored or not; rows keep their order.

    Args:
        frame: (n, c) canonical columns; others become attributes; without `product_id`, rows are numbered.
        pictures: where their pictures are looked up; None = they have none.
        typed: the cells are in their canonical types already (rows of the store).

    Raises:
        DataContractError: a product id stands twice, or a cell cannot be read; the message names the row.
    """
    if not typed:
        frame = _from_outside(frame)
    ids = IdMap(frame[schema.PRODUCT_ID].to_list())
    columns = {column.name for column in schema.PRODUCTS if column.name in frame.columns} - {schema.ATTRIBUTES}
    shown = frame.select([name for name in frame.columns if name in columns])
    named = frame[schema.PRODUCT_ID]
    hashes = pictures.hashes(named) if pictures is not None else pl.repeat(None, len(ids), dtype=pl.String, eager=True)
    shown = shown.with_columns(hashes.alias(schema.IMAGE_HASH))
    if schema.ATTRIBUTES in frame.columns:
        shown = shown.hstack(attributes.unfold(frame[schema.ATTRIBUTES]))
    sellable = np.ones(len(ids), np.bool_)
    if schema.AVAILABLE in frame.columns:
        sellable = frame[schema.AVAILABLE].fill_null(value=True).to_numpy().astype(np.bool_)
    found = pictures.pictures(ids) if pictures is not None else Images.empty(len(ids))
    return Catalogue(ids, shown, sellable, found)


def _from_outside(frame: pl.DataFrame) -> pl.DataFrame:
    from recsys.data.presets import find
    from recsys.data.validation import validate

    if schema.PRODUCT_ID not in frame.columns:
        frame = frame.with_columns(pl.int_range(pl.len()).cast(pl.String).alias(schema.PRODUCT_ID))
    (shaped,) = find("csv").shape(iter([frame]), "products")
    checked = validate("products", shaped, source="the frame", settings=DataSettings(max_bad_fraction=0), now=0)
    if checked.accepted.height < frame.height:
        raise DataContractError("products: the frame holds the same product twice; leave one out")
    return checked.accepted


def _products(engine: Engine, columns: Collection[str] | None = None) -> pl.DataFrame:
    """All products of a store in canonical types, sorted by the bytes of their ids."""
    wanted: tuple[schema.Column, ...] = schema.PRODUCTS
    if columns is not None:  # their ids and what decides whether they belong, in any case
        needed = {schema.PRODUCT_ID, schema.AVAILABLE, *columns}
        wanted = tuple(column for column in wanted if column.name in needed)
    products = _typed(_extract(engine, "products", wanted), wanted)
    ids = products[schema.PRODUCT_ID]  # sorted already, unless the database compares texts in a way of its own
    return products if ids.null_count() == 0 and ids.is_sorted() else products.sort(schema.PRODUCT_ID)


def _kept(
    products: pl.DataFrame, settings: DataSettings, pictures: ImageStore, bought: Callable[[], pl.Series]
) -> pl.DataFrame:
    """The products that belong to the catalogue; `bought` is asked only where purchases decide."""
    if settings.catalogue == "all":
        return products
    known = pictures.hashes(products[schema.PRODUCT_ID]).is_not_null()
    if settings.catalogue == "auto":
        known |= products[schema.AVAILABLE].is_not_null()
    return products if known.all() else products.filter(known | products[schema.PRODUCT_ID].is_in(bought().implode()))


def _extract(engine: Engine, table: str, columns: tuple[schema.Column, ...] = ()) -> pl.DataFrame:
    """Rows of a SELECT of sql/extract; of some columns only, when they are fewer than it has."""
    from recsys.db.engine import stream

    query = (files("recsys.sql.extract") / f"{table}.sql").read_text(encoding="utf-8")
    if engine.dialect.name == "mysql":
        query = query.replace(" AS TEXT)", " AS CHAR)")  # its name for the same there; CHAR is one letter elsewhere
    if columns and columns != schema.TABLES[table]:
        query = (
            f"SELECT {', '.join(column.name for column in columns)} FROM (\n{query}\n) AS listed ORDER BY product_id"  # noqa: S608
        )
    return pl.concat(list(stream(engine, query, batch=_BATCH)), how="diagonal_relaxed", rechunk=True)


def _typed(frame: pl.DataFrame, columns: tuple[schema.Column, ...]) -> pl.DataFrame:
    """Rows of the store in canonical types; they were checked on the way in."""
    out = []
    for column in columns:
        if column.name not in frame.columns:
            raise DataContractError(f"the SELECT gives no column {column.name}; see sql/extract")
        cells = frame[column.name]
        if column.kind == "number":
            cells = parse.numbers(cells)
        elif column.kind == "bool":
            cells = parse.truths(cells)
        elif column.kind == "time":
            cells = _moments(cells)
        else:
            cells = parse.text(cells)
        out.append(cells.alias(column.name))
    return pl.DataFrame(out)


def _moments(cells: pl.Series) -> pl.Series:
    """As `parse.times`, which takes longer over texts of any form than over those that we write ourselves."""
    if cells.dtype == pl.String:
        ours = cells.str.to_datetime(_MOMENT, time_unit="us", strict=False)
        if ours.null_count() == cells.null_count():
            cells = ours
    return parse.times(cells)[0]


def _interactions(
    events: pl.DataFrame, products: IdMap, users: IdMap, settings: DataSettings
) -> tuple[Interactions, int]:
    """Rows for ids, codes for event types, and how many events name no product of the catalogue."""
    item = _rows(events[schema.PRODUCT_ID], products)
    lost = int((item < 0).sum())
    events, item = events.filter(pl.Series(item >= 0)), item[item >= 0]
    kinds = events[schema.EVENT_TYPE].fill_null(schema.PURCHASE)
    codes = {name: code for code, name in enumerate(schema.EVENT_TYPES)}
    kind = kinds.replace_strict(codes, return_dtype=pl.Int8)
    worth = kinds.replace_strict(settings.event_weights, default=1.0, return_dtype=pl.Float32)
    weight = worth * events[schema.QUANTITY].fill_null(1.0).cast(pl.Float32)
    interactions = Interactions.from_events(
        user=_rows(events[schema.USER_ID], users),
        item=item,
        time=events[schema.OCCURRED_AT].to_numpy(),
        kind=kind.to_numpy(),
        weight=weight.to_numpy(),
        n_users=len(users),
        n_items=len(products),
    )
    return interactions, lost


def _rows(texts: pl.Series, ids: IdMap) -> IntArray:
    """As `IdMap.rows`, by a join."""
    known = pl.DataFrame({"id": pl.Series(ids.texts, dtype=pl.String), "row": np.arange(len(ids), dtype=np.int64)})
    found = texts.alias("id").to_frame().join(known, on="id", how="left", maintain_order="left")
    return found["row"].fill_null(-1).to_numpy()


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
