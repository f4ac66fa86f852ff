"""What the store holds, as the model sees it: ids become rows here, once.

In: a store's products, events and users by the SELECTs of sql/extract, and the picture cache. Out: `Dataset`.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.config import DataSettings
from recsys.data import attributes, parse, schema
from recsys.data.catalogue import Catalogue, Pictures, content_hashes
from recsys.data.ids import IdMap
from recsys.data.images import PictureStore
from recsys.data.interactions import Interactions
from recsys.errors import DataContractError

if TYPE_CHECKING:
    from sqlalchemy import Engine

_NOT_HASHED = frozenset({schema.IMAGE, schema.CREATED_AT})


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

    def users_to_score(self) -> npt.NDArray[np.int64]:
        """Rows of the users that shall have a list: all of them, (u,) int64."""
        return np.arange(len(self.users), dtype=np.int64)


def load(engine: Engine, settings: DataSettings, *, pictures: PictureStore) -> Dataset:
    """Read a store.

    Args:
        engine: the store's database.
        settings: what an event is worth, and which products belong to the catalogue.
        pictures: the picture cache.

    Raises:
        DataContractError: the same product twice (a changed SELECT).
        DatabaseUnavailableError: the database does not answer.
    """
    products = _typed(_extract(engine, "products"), schema.PRODUCTS).sort(schema.PRODUCT_ID)
    events = _typed(_extract(engine, "events"), schema.EVENTS)
    listed = _typed(_extract(engine, "users"), schema.USERS)[schema.USER_ID]
    left_out = 0
    if settings.catalogue != "all":
        bought = pl.col(schema.PRODUCT_ID).is_in(events[schema.PRODUCT_ID].unique().implode())
        pictured = pl.Series([text in pictures for text in products[schema.PRODUCT_ID].to_list()], dtype=pl.Boolean)
        known = pl.col(schema.AVAILABLE).is_not_null() if settings.catalogue == "auto" else pl.lit(value=False)
        kept = products.filter(bought | pictured | known)
        left_out = products.height - kept.height
        products = kept
    catalogue = catalogue_of(products, pictures, typed=True)
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
            "products_with_picture": int(catalogue.pictures.present.sum()),
            "products_with_events": int((interactions.counts() > 0).sum()),
            "users": len(users),
            "users_with_events": int((np.diff(interactions.starts) > 0).sum()),
            "events": len(interactions),
            "events_of_unknown_products": lost,
            "first_event": int(interactions.time.min()) if len(interactions) else None,
            "last_event": int(interactions.time.max()) if len(interactions) else None,
        },
    )


def catalogue_of(frame: pl.DataFrame, pictures: PictureStore | None = None, *, typed: bool = False) -> Catalogue:
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
    hashes = [pictures.hash_of(text) if pictures is not None else None for text in ids.texts]
    shown = shown.with_columns(pl.Series(schema.IMAGE_HASH, hashes, dtype=pl.String))
    if schema.ATTRIBUTES in frame.columns:
        shown = shown.hstack(attributes.unfold(frame[schema.ATTRIBUTES]))
    sellable = np.ones(len(ids), np.bool_)
    if schema.AVAILABLE in frame.columns:
        sellable = frame[schema.AVAILABLE].fill_null(value=True).to_numpy().astype(np.bool_)
    found = pictures.pictures(ids) if pictures is not None else Pictures.none(len(ids))
    return Catalogue(ids, shown, sellable, found)


def _from_outside(frame: pl.DataFrame) -> pl.DataFrame:
    from recsys.data.checks import check
    from recsys.data.presets import find

    if schema.PRODUCT_ID not in frame.columns:
        frame = frame.with_columns(pl.int_range(pl.len()).cast(pl.String).alias(schema.PRODUCT_ID))
    (shaped,) = find("csv").shape(iter([frame]), "products")
    checked = check("products", shaped, source="the frame", settings=DataSettings(max_bad_fraction=0), now=0)
    if checked.accepted.height < frame.height:
        raise DataContractError("products: the frame holds the same product twice; leave one out")
    return checked.accepted


def _extract(engine: Engine, table: str) -> pl.DataFrame:
    from recsys.db.engine import stream

    query = (files("recsys.sql.extract") / f"{table}.sql").read_text(encoding="utf-8")
    return pl.concat(list(stream(engine, query)), how="diagonal_relaxed")


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
            cells = parse.times(cells)[0]
        else:
            cells = parse.text(cells)
        out.append(cells.alias(column.name))
    return pl.DataFrame(out)


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
    interactions = Interactions.of(
        user=_rows(events[schema.USER_ID], users),
        item=item,
        time=events[schema.OCCURRED_AT].to_numpy(),
        kind=kind.to_numpy(),
        weight=weight.to_numpy(),
        n_users=len(users),
        n_items=len(products),
    )
    return interactions, lost


def _rows(texts: pl.Series, ids: IdMap) -> npt.NDArray[np.int64]:
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
    for array in (interactions.user, interactions.item, interactions.time, interactions.kind, interactions.weight):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
