"""Cluster labels: the words and attribute values that distinguish a cluster.

In: titles, categories and attributes of products, the cluster of each. Out: a label and terms for every cluster.
"""

from __future__ import annotations

import json
import re
from typing import Final

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.types import IntArray

MAX_TERMS: Final = 10
"""Terms stored per cluster, at most; a label shows the first few."""

_WORD: Final = r"[^\W\d_\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]{2,}"
_UNSPACED: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]{2,}"
_NGRAM_SIZES: Final = (2, 3, 4)
_MAX_CANDIDATES: Final = 40
"""Candidate terms ranked per cluster, at most."""
_MIN_SHARE: Final = 0.1
"""Share of a cluster's products that must carry a term of its label."""

_MIN_IMPLICATION: Final = 0.95
"""Share of one term's products from which another term is implied by it."""

_MIN_RARER_SHARE, _MIN_COMMONER_SHARE, _MIN_PRODUCTS = 0.8, 0.4, 3
"""Thresholds from which two words of titles are joined to one name (Mother Earth).

The rarer nearly always stands next to the other, the other often next to the rarer, and both on three products at
least.
"""


def label_clusters(catalogue: Catalogue, cluster_ids: IntArray, terms: int) -> pl.DataFrame:
    """Label clusters by p log(p / q), the share of a term in the cluster (p) and in all products (q).

    It is each term's part in the divergence of the cluster from the catalogue (the idea of class-based TF-IDF,
    Grootendorst 2022). A word that occurs everywhere has p = q and scores zero, so no list of stop words is needed in
    any language.

    Args:
        catalogue: n products.
        cluster_ids: (n,) int64 cluster ids.
        terms: words in a label; more where two clusters would have the same label.

    Returns:
        Frame (cluster_id, label, size, terms) by ascending id; terms is a JSON list, the most distinctive first.
    """
    ids, sizes = np.unique(cluster_ids, return_counts=True)
    occurrences = _term_occurrences(catalogue)
    ranked_terms = _rank_terms(occurrences, cluster_ids)
    implications = _find_implications(occurrences, ranked_terms)
    selected = [_select_terms(ranked_terms.get(int(cluster), []), implications) for cluster in ids]
    return pl.DataFrame(
        {
            "cluster_id": ids.astype(np.int64),
            "label": _labels(selected, terms, ids),
            "size": sizes.astype(np.int64),
            "terms": [json.dumps(words, ensure_ascii=False) for words in selected],
        },
        schema={"cluster_id": pl.Int64, "label": pl.String, "size": pl.Int64, "terms": pl.String},
    )


def _rank_terms(occurrences: pl.DataFrame, groups: IntArray) -> dict[int, list[str]]:
    """Return each cluster's terms in their most frequent spelling, the most distinctive first."""
    clusters = pl.DataFrame({"row": np.arange(len(groups), dtype=np.int64), "cluster": groups})
    spelling = occurrences.group_by("term", "text").len().sort("term", "len", "text", descending=[False, True, False])
    spelling = spelling.group_by("term", maintain_order=True).first().select("term", "text")
    distinct = occurrences.select("row", "term").unique().join(clusters, on="row")
    totals = distinct.group_by("term").len("total")
    sizes = clusters.group_by("cluster").len("size")
    counts = distinct.group_by("cluster", "term").len("count").join(totals, on="term").join(sizes, on="cluster")
    cluster_share = pl.col("count") / pl.col("size")
    ranked = (
        counts.filter((cluster_share >= _MIN_SHARE) & ((pl.col("count") > 1) | (pl.col("size") == 1)))
        .with_columns((cluster_share * (cluster_share * len(groups) / pl.col("total")).log()).round(9).alias("score"))
        .filter(pl.col("score") > 0)
        .join(spelling, on="term")
        # of ties the longer: an n-gram is only part of a word
        .with_columns(pl.col("term").str.len_chars().alias("length"))
        .sort("cluster", "score", "length", "term", descending=[False, True, True, False])
        .group_by("cluster", maintain_order=True)
        .agg(pl.col("text").head(_MAX_CANDIDATES))
    )
    return {int(cluster): list(texts) for cluster, texts in ranked.iter_rows()}


def _find_implications(occurrences: pl.DataFrame, ranked: dict[int, list[str]]) -> set[tuple[str, str]]:
    """Return pairs (a, b) of terms where nearly every product with a has b: b adds nothing to a."""
    from scipy.sparse import csr_array

    terms = sorted({text.lower() for texts in ranked.values() for text in texts})
    if not terms:
        return set()
    column = pl.DataFrame({"term": terms, "column": np.arange(len(terms), dtype=np.int64)})
    cells = occurrences.select("row", "term").unique().join(column, on="term")
    shape = (int(cells["row"].max()) + 1, len(terms))  # type: ignore[arg-type]
    incidence = csr_array(
        (np.ones(cells.height, np.int64), (cells["row"].to_numpy(), cells["column"].to_numpy())), shape
    )
    joint = (incidence.T @ incidence).tocoo()
    counts: IntArray = np.asarray(incidence.sum(axis=0)).ravel()
    is_implied = joint.data >= _MIN_IMPLICATION * counts[joint.row]
    return {(terms[a], terms[b]) for a, b in zip(joint.row[is_implied], joint.col[is_implied], strict=True)}


def _term_occurrences(catalogue: Catalogue) -> pl.DataFrame:
    """Return the terms of each product: row, term (folded), text (as written)."""
    table = catalogue.frame
    rows = pl.Series("row", np.arange(table.height, dtype=np.int64))
    frames = []
    if schema.TITLE in table.columns:
        title = table[schema.TITLE].cast(pl.String).fill_null("")
        words = _explode_texts(rows, title.str.extract_all(_WORD))
        frames += [words, _joined_names(words)]
        runs = _explode_texts(rows, title.str.extract_all(_UNSPACED))
        frames += [_ngrams(runs, size) for size in _NGRAM_SIZES] if runs.height else []
    for name in (schema.CATEGORY, schema.BRAND, *table.columns):
        is_searched = name in (schema.CATEGORY, schema.BRAND) or name.startswith(schema.ATTRIBUTE_PREFIX)
        if is_searched and name in table.columns and table.schema[name] == pl.String:
            frames.append(_explode_texts(rows, table[name].str.split(" | ")))
    occurrences = pl.concat(frames) if frames else _explode_texts(rows[:0], pl.Series(dtype=pl.List(pl.String)))
    # numbers such as 2016 or 38 mean nothing without their column
    occurrences = occurrences.filter(pl.col("text").str.contains(r"\p{L}"))
    return occurrences.with_columns(pl.col("text").str.to_lowercase().alias("term"))


def _joined_names(words: pl.DataFrame) -> pl.DataFrame:
    """Return pairs of neighbouring words that nearly always occur together."""
    folded = words.with_columns(pl.col("text").str.to_lowercase().alias("first"))
    pairs = folded.with_columns(
        pl.col("first").shift(-1).over("row").alias("second"),
        pl.concat_str(pl.col("text"), pl.col("text").shift(-1).over("row"), separator=" ").alias("text"),
    ).drop_nulls("second")
    frequency = folded.group_by("first").agg(pl.col("row").n_unique().alias("count"))
    counts = (
        pairs.group_by("first", "second")
        .agg(pl.col("row").n_unique().alias("both"))
        .filter((pl.col("both") >= _MIN_PRODUCTS) & (pl.col("first") != pl.col("second")))
        .join(frequency, on="first")
        .join(frequency.rename({"first": "second"}), on="second", suffix="_second")
    )
    rarer_count, commoner_count = pl.min_horizontal("count", "count_second"), pl.max_horizontal("count", "count_second")
    joined = counts.filter(
        (pl.col("both") >= _MIN_RARER_SHARE * rarer_count) & (pl.col("both") >= _MIN_COMMONER_SHARE * commoner_count)
    )
    return pairs.join(joined.select("first", "second"), on=["first", "second"], how="semi").select("row", "text")


def _explode_texts(rows: pl.Series, texts: pl.Series) -> pl.DataFrame:
    """Return one row for each text of each product."""
    frame = pl.DataFrame({"row": rows, "text": texts}).explode("text")
    return frame.with_columns(pl.col("text").str.strip_chars()).filter(pl.col("text").str.len_chars() > 1)


def _ngrams(runs: pl.DataFrame, size: int) -> pl.DataFrame:
    """Return the n-grams of runs of a script without spaces, where word boundaries are not marked."""
    ngrams = [
        (row, text[start : start + size]) for row, text in runs.iter_rows() for start in range(len(text) - size + 1)
    ]
    return pl.DataFrame(ngrams, schema=runs.schema, orient="row")


def _select_terms(texts: list[str], implied: set[tuple[str, str]]) -> list[str]:
    """Select the first terms that add something to the ones before them."""
    selected: list[str] = []
    used_words: set[str] = set()
    for candidate in texts:
        text = _full_name(candidate, texts, implied)
        words = {_singular(word) for word in re.findall(r"\w+", text.lower())}
        is_part = not text.isascii() and any(text in previous or previous in text for previous in selected)
        if is_part or words <= used_words or any((previous.lower(), text.lower()) in implied for previous in selected):
            continue
        selected.append(text)
        used_words |= words
        if len(selected) == MAX_TERMS:
            break
    return selected


def _full_name(text: str, texts: list[str], implied: set[tuple[str, str]]) -> str:
    """Return the name that a word is nearly always part of, or the word."""
    word = text.lower()
    for name in texts:
        if word in name.lower().split() and word != name.lower() and (word, name.lower()) in implied:
            return name
    return text


def _singular(word: str) -> str:
    """Return the singular of a regular English plural; other words unchanged."""
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _labels(selected: list[list[str]], terms: int, ids: IntArray) -> list[str]:
    """Join terms to labels; equal labels get more terms, and finally the cluster id."""
    lengths = [terms] * len(selected)
    while True:
        labels = [" · ".join(words[:length]) for words, length in zip(selected, lengths, strict=True)]
        duplicates = [i for i, label in enumerate(labels) if labels.count(label) > 1]
        extendable = [i for i in duplicates if lengths[i] < len(selected[i])]
        if not extendable:
            break
        for i in extendable:
            lengths[i] += 1
    for i in duplicates:
        labels[i] = f"{labels[i]} ({ids[i]})" if labels[i] else f"group {ids[i]}"
    return [label or f"group {cluster}" for label, cluster in zip(labels, ids, strict=True)]
