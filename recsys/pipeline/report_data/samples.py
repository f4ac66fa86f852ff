"""Samples shown in a report: users with recommendations, clusters with a map, products with neighbours.

In: data, published recommendations and neighbours, the files of `cluster`. Out: parts of `ReportContent`; the products
are added to a `ProductTable`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.dataset import Dataset
from recsys.data.interactions import Interactions
from recsys.errors import ModelFolderError
from recsys.pipeline.index import SIMILAR
from recsys.pipeline.report_data.product_table import ProductTable
from recsys.report.content import ClusterCard, ClusterMap, NeighbourExample, RankedItem, UserEvent, UserExample
from recsys.store import run_statistics as looks

if TYPE_CHECKING:
    from recsys.store.store import Store

logger = logging.getLogger(__name__)

_LATELY, _LISTED = 8, 12
_SHEET, _SHEETS, _DOTS = 12, 48, 1500
_NEAR, _SEEDS = 6, 48


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Places 0..count-1, at most `wanted`, evenly apart, the first and the last among them."""
    if wanted <= 0 or count <= 0:
        return []
    places: list[int] = np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)).tolist()
    return places


def sample_users(
    dataset: Dataset, store: Store, shelf: ProductTable, *, wanted: int, placement: str
) -> tuple[UserExample, ...]:
    """Users from those without history to those with the longest, with what they did last and their lists."""
    events = dataset.interactions
    lengths = np.diff(events.starts)
    order = np.lexsort((np.arange(len(lengths)), lengths))
    rows = order[evenly_spaced(len(order), wanted)]
    ids = dataset.users.ids(rows)
    lists = store.recommendations(ids, placement=placement, k=_LISTED) if len(ids) else None
    out = []
    for user, row in zip(ids, rows.tolist(), strict=True):
        own = slice(events.starts[row], events.starts[row + 1])
        out.append(UserExample(user, int(lengths[row]), _lately(events, own, shelf), _list(lists, user, shelf)))
    return tuple(out)


def _lately(events: Interactions, own: slice, shelf: ProductTable) -> tuple[UserEvent, ...]:
    """The last products of a user, each once with all that was done with it, the newest first."""
    done: dict[int, tuple[list[str], int]] = {}
    for item, kind, time in zip(
        events.item[own][::-1], events.event_type[own][::-1], events.time[own][::-1], strict=True
    ):
        kinds, _ = done.setdefault(int(item), ([], int(time)))
        said = schema.EVENT_TYPES[int(kind)].replace("_", " ")
        if said not in kinds:
            kinds.insert(0, said)  # in the order in which it was done
        if len(done) > _LATELY:
            done.popitem()
            break
    return tuple(UserEvent(shelf.add(item), ", ".join(kinds), time) for item, (kinds, time) in done.items())


def _list(lists: pl.DataFrame | None, user: str, shelf: ProductTable) -> tuple[RankedItem, ...]:
    if lists is None:
        return ()
    own = lists.filter(pl.col("user_id") == user).sort("rank")
    places = shelf.add_all(own["product_id"].to_list())
    cells = zip(places, own["reason"].to_list(), own["score"].to_list(), strict=True)
    return tuple(RankedItem(place, reason or "", float(score or 0)) for place, reason, score in cells if place >= 0)


def sample_neighbours(
    catalogue: Catalogue, store: Store, shelf: ProductTable, *, wanted: int
) -> tuple[NeighbourExample, ...]:
    """Products and their neighbours: some from all over the catalogue, then the neighbours of these, and so on.

    So most neighbours can be chosen in their turn.
    """
    sellable = np.flatnonzero(catalogue.sellable)
    first = sellable[evenly_spaced(len(sellable), min(_SEEDS, wanted))]
    ids: dict[str, None] = dict.fromkeys(catalogue.ids.ids(first))
    near: dict[str, list[tuple[str, float]]] = {}
    while True:
        asked = [name for name in ids if name not in near][: max(0, wanted - len(near))]
        if not asked:
            break
        with store.reader() as connection:
            found = looks.neighbours(connection, asked, placement=SIMILAR, k=_NEAR)
        near |= {name: [] for name in asked}
        for name, _, other, score in found.iter_rows():
            if other in catalogue.ids:
                near[name].append((other, float(score)))
                ids.setdefault(other)
    out = []
    for name, others in near.items():
        if others:
            own, *places = shelf.add_all([name, *(other for other, _ in others)])
            out.append(NeighbourExample(own, tuple(zip(places, (score for _, score in others), strict=True))))
    return tuple(out)


def load_clusters(catalogue: Catalogue, folder: Path, shelf: ProductTable) -> ClusterMap | None:
    """The groups and the map as `cluster` left them; None where there are none, or not those that were written.

    Args:
        catalogue: of today; products that have gone are left out.
        folder: of groups.parquet, map.parquet (which may be missing) and their manifest.
        shelf: takes the products that are shown.
    """
    try:
        groups = _checked(folder, "groups.parquet")
        if groups is None:
            return None
        drawn = _checked(folder, "map.parquet")
    except (ModelFolderError, OSError, pl.exceptions.PolarsError) as error:
        logger.warning("the groups of products cannot be read (%s); run 'recsys cluster'", error)
        return None
    groups = groups.filter(pl.col("cluster_id") >= 0).sort("size", "cluster_id", descending=[True, False])
    some = groups.head(_SHEETS)
    shown: list[list[int]] = [[] for _ in range(some.height)]
    wishes: list[list[str]] = [
        [name for name in names or [] if name in catalogue.ids][:_SHEET] for names in some["exemplars"].to_list()
    ]
    for wish, own, group in zip(wishes, shown, some["cluster_id"].to_list(), strict=True):
        if drawn is not None and len(wish) < _SHEET:
            others = drawn.filter(pl.col("cluster_id") == group)["product_id"].to_list()
            wish += [name for name in others if name not in wish and name in catalogue.ids][: _SHEET - len(wish)]
        own += [place for place in shelf.add_all(wish) if place >= 0]
    made = tuple(
        ClusterCard(
            row["cluster_id"], row["label"] or "", row["size"], tuple(row["terms"] or ()), _parent(row), tuple(own)
        )
        for row, own in zip(some.iter_rows(named=True), shown, strict=True)
    )
    dots, whole = _dots(catalogue, drawn, shelf)
    return ClusterMap(made, dots, whole, groups.height)


def _dots(
    catalogue: Catalogue, drawn: pl.DataFrame | None, shelf: ProductTable
) -> tuple[tuple[tuple[int, float, float, int], ...], int]:
    """Dots of the map, and of how many products they are."""
    if drawn is None:
        return (), 0
    known = drawn.filter(pl.col("product_id").is_in(catalogue.ids.texts) & pl.col("x").is_finite())
    known = known.filter(pl.col("y").is_finite()).sort("product_id")
    some = known[evenly_spaced(known.height, _DOTS)]
    places = shelf.add_all(some["product_id"].to_list())
    cells = zip(places, some["x"].to_list(), some["y"].to_list(), some["cluster_id"].to_list(), strict=True)
    return tuple(cells), known.height


def _parent(row: dict[str, Any]) -> str:
    return str(row.get("parent_label") or "")


def _checked(folder: Path, name: str) -> pl.DataFrame | None:
    """A file of the folder, None where it is not there; checked against the manifest where that has it.

    Raises:
        ModelFolderError: it is not the file that was written.
    """
    path, manifest = folder / name, folder / "clusters.json"
    if not path.is_file():
        return None
    held = path.read_bytes()
    if manifest.is_file():
        try:
            named = json.loads(manifest.read_text(encoding="utf-8"))["files"].get(name, {}).get("sha256")
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelFolderError(f"{manifest} is not a manifest: {error}") from error
        if named != sha256(held).hexdigest():
            raise ModelFolderError(f"{path} is not the file that was written")
    return pl.read_parquet(held)


def agreement_columns(catalogue: Catalogue, *, most: int = 4) -> Sequence[str]:
    """Columns by which neighbours are judged: category, brand, then attributes of few values, the fullest first."""
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
