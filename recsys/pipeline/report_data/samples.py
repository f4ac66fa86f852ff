"""Samples shown in a report: users with recommendations, clusters with a map, products with neighbours.

In: data, published recommendations and neighbours, the files of `cluster`. Out: parts of `ReportContent`; the products
are added to a `ProductTable`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys.artifacts.file_set import verify_file
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.dataset import Dataset
from recsys.data.interactions import Interactions
from recsys.errors import ModelFolderError
from recsys.pipeline.index import SIMILAR
from recsys.pipeline.report_data.product_table import ProductTable
from recsys.report.content import ClusterCard, ClusterMap, NeighbourExample, RankedItem, UserEvent, UserExample
from recsys.store import run_statistics

if TYPE_CHECKING:
    from recsys.store.store import Store

logger = logging.getLogger(__name__)

_MAX_RECENT_PRODUCTS, _MAX_RANKS = 8, 12
_MAX_CLUSTER_PRODUCTS, _MAX_CLUSTERS, _MAX_DOTS = 12, 48, 1500
_MAX_NEIGHBOURS, _MAX_SEEDS = 6, 48


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Return at most `limit` evenly spaced indices of 0..count-1, including the first and the last."""
    if limit <= 0 or count <= 0:
        return []
    indices: list[int] = np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64)).tolist()
    return indices


def sample_users(
    dataset: Dataset, store: Store, product_table: ProductTable, *, wanted: int, placement: str
) -> tuple[UserExample, ...]:
    """Sample users from the shortest to the longest history, with last events and recommendations."""
    events = dataset.interactions
    lengths = np.diff(events.starts)
    order = np.lexsort((np.arange(len(lengths)), lengths))
    rows = order[evenly_spaced(len(order), wanted)]
    ids = dataset.users.ids(rows)
    lists = store.recommendations(ids, placement=placement, k=_MAX_RANKS) if len(ids) else None
    out = []
    for user, row in zip(ids, rows.tolist(), strict=True):
        user_events = slice(events.starts[row], events.starts[row + 1])
        out.append(
            UserExample(
                user,
                int(lengths[row]),
                _recent_events(events, user_events, product_table),
                _ranked_items(lists, user, product_table),
            )
        )
    return tuple(out)


def _recent_events(events: Interactions, user_events: slice, product_table: ProductTable) -> tuple[UserEvent, ...]:
    """Return the last products of a user with all their event types, newest first."""
    events_by_product: dict[int, tuple[list[str], int]] = {}
    for item, kind, time in zip(
        events.item[user_events][::-1],
        events.event_type[user_events][::-1],
        events.time[user_events][::-1],
        strict=True,
    ):
        kinds, _ = events_by_product.setdefault(int(item), ([], int(time)))
        event_name = schema.EVENT_TYPES[int(kind)].replace("_", " ")
        if event_name not in kinds:
            kinds.insert(0, event_name)  # oldest first
        if len(events_by_product) > _MAX_RECENT_PRODUCTS:
            events_by_product.popitem()
            break
    return tuple(
        UserEvent(product_table.add(item), ", ".join(kinds), time) for item, (kinds, time) in events_by_product.items()
    )


def _ranked_items(lists: pl.DataFrame | None, user: str, product_table: ProductTable) -> tuple[RankedItem, ...]:
    if lists is None:
        return ()
    user_list = lists.filter(pl.col("user_id") == user).sort("rank")
    places = product_table.add_all(user_list["product_id"].to_list())
    cells = zip(places, user_list["reason"].to_list(), user_list["score"].to_list(), strict=True)
    return tuple(RankedItem(place, reason or "", float(score or 0)) for place, reason, score in cells if place >= 0)


def sample_neighbours(
    catalogue: Catalogue, store: Store, product_table: ProductTable, *, wanted: int
) -> tuple[NeighbourExample, ...]:
    """Sample products and their neighbours: some from the whole catalogue, then their neighbours, and so on.

    So most neighbours shown are themselves products of the sample.
    """
    sellable = np.flatnonzero(catalogue.sellable)
    first = sellable[evenly_spaced(len(sellable), min(_MAX_SEEDS, wanted))]
    ids: dict[str, None] = dict.fromkeys(catalogue.ids.ids(first))
    near: dict[str, list[tuple[str, float]]] = {}
    while True:
        pending = [name for name in ids if name not in near][: max(0, wanted - len(near))]
        if not pending:
            break
        with store.reader() as connection:
            rows = run_statistics.published_neighbours(connection, pending, placement=SIMILAR, k=_MAX_NEIGHBOURS)
        near |= {name: [] for name in pending}
        for name, _, other, score in rows.iter_rows():
            if other in catalogue.ids:
                near[name].append((other, float(score)))
                ids.setdefault(other)
    out = []
    for name, others in near.items():
        if others:
            position, *positions = product_table.add_all([name, *(other for other, _ in others)])
            out.append(NeighbourExample(position, tuple(zip(positions, (score for _, score in others), strict=True))))
    return tuple(out)


def load_clusters(catalogue: Catalogue, folder: Path, product_table: ProductTable) -> ClusterMap | None:
    """Load the clusters and the map written by `cluster`; None if there are none or they are damaged.

    Args:
        catalogue: the current one; removed products are left out.
        folder: with groups.parquet, map.parquet (which may be missing) and their manifest.
        product_table: table to which the shown products are added.
    """
    try:
        groups = _read_verified(folder, "groups.parquet")
        if groups is None:
            return None
        map_table = _read_verified(folder, "map.parquet")
    except (ModelFolderError, OSError, pl.exceptions.PolarsError) as error:
        logger.warning("the groups of products cannot be read (%s); run 'recsys cluster'", error)
        return None
    groups = groups.filter(pl.col("cluster_id") >= 0).sort("size", "cluster_id", descending=[True, False])
    largest = groups.head(_MAX_CLUSTERS)
    shown: list[list[int]] = [[] for _ in range(largest.height)]
    wishes: list[list[str]] = [
        [name for name in names or [] if name in catalogue.ids][:_MAX_CLUSTER_PRODUCTS]
        for names in largest["exemplars"].to_list()
    ]
    for wish, own, group in zip(wishes, shown, largest["cluster_id"].to_list(), strict=True):
        if map_table is not None and len(wish) < _MAX_CLUSTER_PRODUCTS:
            others = map_table.filter(pl.col("cluster_id") == group)["product_id"].to_list()
            wish += [name for name in others if name not in wish and name in catalogue.ids][
                : _MAX_CLUSTER_PRODUCTS - len(wish)
            ]
        own += [place for place in product_table.add_all(wish) if place >= 0]
    made = tuple(
        ClusterCard(
            row["cluster_id"], row["label"] or "", row["size"], tuple(row["terms"] or ()), _parent(row), tuple(own)
        )
        for row, own in zip(largest.iter_rows(named=True), shown, strict=True)
    )
    dots, n_products = _dots(catalogue, map_table, product_table)
    return ClusterMap(made, dots, n_products, groups.height)


def _dots(
    catalogue: Catalogue, map_table: pl.DataFrame | None, product_table: ProductTable
) -> tuple[tuple[tuple[int, float, float, int], ...], int]:
    """Return the dots of the map, and the number of products they are sampled from."""
    if map_table is None:
        return (), 0
    known = map_table.filter(pl.col("product_id").is_in(catalogue.ids.texts) & pl.col("x").is_finite())
    known = known.filter(pl.col("y").is_finite()).sort("product_id")
    some = known[evenly_spaced(known.height, _MAX_DOTS)]
    places = product_table.add_all(some["product_id"].to_list())
    cells = zip(places, some["x"].to_list(), some["y"].to_list(), some["cluster_id"].to_list(), strict=True)
    return tuple(cells), known.height


def _parent(row: dict[str, Any]) -> str:
    return str(row.get("parent_label") or "")


def _read_verified(folder: Path, name: str) -> pl.DataFrame | None:
    """Read a file of the folder, verified against the manifest if there is one; None if it is missing.

    Raises:
        ModelFolderError: it is not the file that was written.
    """
    path, manifest = folder / name, folder / "clusters.json"
    if not path.is_file():
        return None
    content = path.read_bytes()
    if manifest.is_file():
        try:
            expected = json.loads(manifest.read_text(encoding="utf-8"))["files"].get(name, {}).get("sha256")
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelFolderError(f"{manifest} is not a manifest: {error}") from error
        verify_file(path, sha256=expected or "", content=content, advice="run 'recsys cluster'")
    return pl.read_parquet(content)


def agreement_columns(catalogue: Catalogue, *, most: int = 4) -> Sequence[str]:
    """Return columns to compare neighbours by: category, brand, then low-cardinality attributes, fullest first."""
    frame = catalogue.frame
    named = [name for name in (schema.CATEGORY, schema.BRAND) if name in frame.columns]
    named = [name for name in named if frame[name].n_unique() > 2]
    own = [
        name
        for name in frame.columns
        if name.startswith(schema.ATTRIBUTE_PREFIX) and frame.schema[name] == pl.String and frame[name].n_unique() > 2
    ]
    own = [name for name in own if frame[name].drop_nulls().n_unique() <= frame.height / 5]
    own.sort(key=lambda name: (frame[name].null_count(), name))
    return [*named, *own][:most]
