"""Measures how often neighbours share an attribute: by embeddings, by words alone, by chance.

In: a catalogue, the published neighbours of some products. Out: figures with
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.tfidf import product_tfidf
from recsys.evaluate.significance import bootstrap_interval
from recsys.report.measurements import Figure
from recsys.types import DoubleArray, IntArray

OURS, WORDS, CHANCE = "recsys", "words alone", "chance"
METRIC = "same@10"
_K, _BOOTSTRAP_SAMPLES, _BATCH_SIZE = 10, 500, 64


def neighbour_agreement(
    catalogue: Catalogue, rows: IntArray, near: pl.DataFrame, columns: Sequence[str], *, seed: int
) -> tuple[Figure, ...]:
    """Compute the share of the ten nearest neighbours with the product's value: mean and 95 % interval.

    Products without a value, and neighbours without one, do not count. Chance is the share of all other products that
    have the value.

    Args:
        catalogue: n products.
        rows: (m,) products to measure.
        near: product_id, rank, neighbour_id of their published neighbours.
        columns: attributes to compare by.
        seed: of the bootstrap.
    """
    neighbours = {OURS: _published_neighbours(catalogue, rows, near), WORDS: _text_neighbours(catalogue, rows)}
    figures: list[Figure] = []
    for column in columns:
        code = _codes(catalogue.frame[column])
        product_code = code[rows]
        shares = {name: _shared_value_rates(code, product_code, lists) for name, lists in neighbours.items()}
        shares[CHANCE] = _chance_rates(code, product_code)
        valid = np.all([np.isfinite(values) for values in shares.values()], axis=0)
        if not valid.any():
            continue
        for name, values in shares.items():
            valid_values = values[valid]
            low, high = bootstrap_interval(valid_values, samples=_BOOTSTRAP_SAMPLES, seed=seed)
            attribute = column.removeprefix(schema.ATTRIBUTE_PREFIX)
            figures.append(Figure(name, attribute, METRIC, float(valid_values.mean()), low, high, int(valid.sum())))
    return tuple(figures)


def _published_neighbours(catalogue: Catalogue, rows: IntArray, near: pl.DataFrame) -> IntArray:
    """Return the published neighbours of each product: (m, 10) rows, -1 = none."""
    out = np.full((len(rows), _K), -1, np.int64)
    index = {name: i for i, name in enumerate(catalogue.ids.ids(rows))}
    product = np.array([index.get(name, -1) for name in near["product_id"].to_list()], np.int64)
    rank = near["rank"].to_numpy().astype(np.int64) - 1
    neighbour = catalogue.ids.rows(near["neighbour_id"].to_list())
    valid = (product >= 0) & (rank < _K)
    out[product[valid], rank[valid]] = neighbour[valid]
    return out


def _text_neighbours(catalogue: Catalogue, rows: IntArray) -> IntArray:
    """Return the ten sellable products most similar in title and description, by TF-IDF: (m, 10) rows, -1 = none."""
    columns = [
        name for name in (schema.PRODUCT_ID, schema.TITLE, schema.DESCRIPTION) if name in catalogue.frame.columns
    ]
    text_only = Catalogue(catalogue.ids, catalogue.frame.select(columns), catalogue.sellable.copy(), catalogue.images)
    content = product_tfidf(text_only)
    out = np.full((len(rows), _K), -1, np.int64)
    for start in range(0, len(rows), _BATCH_SIZE):
        block = rows[start : start + _BATCH_SIZE]
        cosine = np.asarray((content[block] @ content.T).todense())
        cosine[:, ~catalogue.sellable] = -1
        cosine[np.arange(len(block)), block] = -1
        best = np.argsort(-cosine, axis=1, kind="stable")[:, :_K]
        similar = np.take_along_axis(cosine, best, axis=1) > 0
        out[start : start + len(block), : best.shape[1]] = np.where(similar, best, -1)
    return out


def _codes(values: pl.Series) -> IntArray:
    """Number the distinct values, -1 = none: (n,)."""
    texts = values.cast(pl.String)
    codes = texts.rank("dense").cast(pl.Int64) - 1
    return codes.fill_null(-1).to_numpy().astype(np.int64)


def _shared_value_rates(code: IntArray, product_code: IntArray, lists: IntArray) -> DoubleArray:
    """Return the share of each list with the product's value, NaN without values: (m,)."""
    neighbour_code = np.where(lists >= 0, code[lists], -1)
    valid = (neighbour_code >= 0) & (product_code >= 0)[:, None]
    same = ((neighbour_code == product_code[:, None]) & valid).sum(axis=1)
    count = valid.sum(axis=1)
    return np.where(count > 0, same / np.maximum(count, 1), np.nan)


def _chance_rates(code: IntArray, product_code: IntArray) -> DoubleArray:
    present = code[code >= 0]
    counts = np.bincount(present, minlength=int(code.max(initial=0)) + 1)
    return np.where(product_code >= 0, (counts[np.maximum(product_code, 0)] - 1) / max(1, len(present) - 1), np.nan)
