"""The words of each product as a sparse vector: names and rare words that a dense vector blurs.

In: the catalogue's text columns. Out: (n, w) float32 rows of unit length (TF-IDF; Sparck Jones 1972).
"""

from __future__ import annotations

import re

import numpy as np
import polars as pl
from scipy import sparse

from recsys.data import schema
from recsys.data.catalogue import Catalogue

_WORD = re.compile(r"[^\W_]+")
# Scripts written without spaces: a run of them is cut into pairs of neighbouring characters.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
TEXT_COLUMNS = (schema.TITLE, schema.DESCRIPTION, schema.BRAND, schema.CATEGORY)


def split(text: str) -> list[str]:
    """Words in lower case; Chinese, Japanese and Thai runs as pairs of characters."""
    out: list[str] = []
    for word in _WORD.findall(text.lower()):
        runs = _UNSPACED.findall(word)
        out += [piece for piece in _UNSPACED.split(word) if piece] if runs else [word]
        out += [run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1))]
    return out


def product_tfidf(catalogue: Catalogue) -> sparse.csr_matrix:
    """TF-IDF of title, description, brand, category and text attributes: (n, w) float32, zero rows without text."""
    frame = catalogue.frame
    names = [*TEXT_COLUMNS, *(name for name in frame.columns if name.startswith(schema.ATTRIBUTE_PREFIX))]
    held = [name for name in names if name in frame.columns and frame.schema[name] == pl.String]
    place: dict[str, int] = {}
    columns: list[int] = []
    lengths = np.zeros(len(catalogue), np.int64)
    for row, values in enumerate(frame.select(held).iter_rows()):
        found = split(" ".join(value for value in values if value))
        columns += [place.setdefault(word, len(place)) for word in found]
        lengths[row] = len(found)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    counts = sparse.csr_matrix(
        (np.ones(len(columns), np.float32), np.array(columns, np.int64), starts),
        shape=(len(catalogue), max(1, len(place))),
    )
    counts.sum_duplicates()
    within = np.bincount(counts.indices, minlength=counts.shape[1])
    weight = np.log((1 + len(catalogue)) / (1 + within)) + 1
    counts.data = ((1 + np.log(counts.data)) * weight[counts.indices]).astype(np.float32)
    norm = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    counts.data /= np.repeat(np.where(norm > 0, norm, 1.0), np.diff(counts.indptr)).astype(np.float32)
    return counts
