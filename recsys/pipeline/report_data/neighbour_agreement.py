"""Whether neighbours belong together: how often they share an attribute, by our vectors, by words, by chance.

In: a catalogue, the published neighbours of some products. Out: figures with intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data import tfidf as words
from recsys.data.catalogue import Catalogue
from recsys.evaluate import significance as intervals
from recsys.report.measurements import Figure
from recsys.types import DoubleArray, IntArray

OURS, WORDS, CHANCE = "recsys", "words alone", "chance"
METRIC = "same@10"
_K, _SAMPLES, _BLOCK = 10, 500, 64


def neighbour_agreement(
    catalogue: Catalogue, rows: IntArray, near: pl.DataFrame, columns: Sequence[str], *, seed: int
) -> tuple[Figure, ...]:
    """Share of the ten nearest neighbours with a product's own value: the mean over products, 95 % interval.

    Products without a value, and neighbours without one, do not count. Chance is the share of all other products that
    have the value.

    Args:
        catalogue: n products.
        rows: (m,) products looked at.
        near: product_id, rank, neighbour_id of their published neighbours.
        columns: attributes to compare by.
        seed: of the bootstrap.
    """
    by = {OURS: _published(catalogue, rows, near), WORDS: _worded(catalogue, rows)}
    out: list[Figure] = []
    for column in columns:
        code = _codes(catalogue.frame[column])
        own = code[rows]
        shares = {name: _shared(code, own, lists) for name, lists in by.items()} | {CHANCE: _chance(code, own)}
        both = np.all([np.isfinite(values) for values in shares.values()], axis=0)
        if not both.any():
            continue
        for name, values in shares.items():
            some = values[both]
            low, high = intervals.bootstrap_interval(some, samples=_SAMPLES, seed=seed)
            said = column.removeprefix(schema.ATTRIBUTE_PREFIX)
            out.append(Figure(name, said, METRIC, float(some.mean()), low, high, int(both.sum())))
    return tuple(out)


def _published(catalogue: Catalogue, rows: IntArray, near: pl.DataFrame) -> IntArray:
    """Neighbours of each product: (m, 10) rows, -1 = none."""
    out = np.full((len(rows), _K), -1, np.int64)
    place = {name: at for at, name in enumerate(catalogue.ids.ids(rows))}
    own = np.array([place.get(name, -1) for name in near["product_id"].to_list()], np.int64)
    rank = near["rank"].to_numpy().astype(np.int64) - 1
    other = catalogue.ids.rows(near["neighbour_id"].to_list())
    kept = (own >= 0) & (rank < _K)
    out[own[kept], rank[kept]] = other[kept]
    return out


def _worded(catalogue: Catalogue, rows: IntArray) -> IntArray:
    """The ten sellable products whose title and description are most alike, by TF-IDF: (m, 10) rows, -1 = none."""
    kept = [name for name in (schema.PRODUCT_ID, schema.TITLE, schema.DESCRIPTION) if name in catalogue.frame.columns]
    plain = Catalogue(catalogue.ids, catalogue.frame.select(kept), catalogue.sellable.copy(), catalogue.images)
    content = words.product_tfidf(plain)
    out = np.full((len(rows), _K), -1, np.int64)
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        cosine = np.asarray((content[some] @ content.T).todense())
        cosine[:, ~catalogue.sellable] = -1
        cosine[np.arange(len(some)), some] = -1
        best = np.argsort(-cosine, axis=1, kind="stable")[:, :_K]
        known = np.take_along_axis(cosine, best, axis=1) > 0
        out[start : start + len(some), : best.shape[1]] = np.where(known, best, -1)
    return out


def _codes(values: pl.Series) -> IntArray:
    """A number a value, -1 = none: (n,)."""
    texts = values.cast(pl.String)
    codes = texts.rank("dense").cast(pl.Int64) - 1
    return codes.fill_null(-1).to_numpy().astype(np.int64)


def _shared(code: IntArray, own: IntArray, lists: IntArray) -> DoubleArray:
    """Share of each list with the product's own value, NaN where nothing is known: (m,)."""
    theirs = np.where(lists >= 0, code[lists], -1)
    known = (theirs >= 0) & (own >= 0)[:, None]
    same = ((theirs == own[:, None]) & known).sum(axis=1)
    count = known.sum(axis=1)
    return np.where(count > 0, same / np.maximum(count, 1), np.nan)


def _chance(code: IntArray, own: IntArray) -> DoubleArray:
    known = code[code >= 0]
    counts = np.bincount(known, minlength=int(code.max(initial=0)) + 1)
    return np.where(own >= 0, (counts[np.maximum(own, 0)] - 1) / max(1, len(known) - 1), np.nan)
