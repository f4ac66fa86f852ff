"""Names for groups of products: the words and attribute values that set a group apart.

In: titles, categories and attributes of products, the group of each. Out: a label and its terms for every group.
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

KEPT: Final = 10
"""Terms kept per group at most; a label shows the first few."""

_WORD: Final = r"[^\W\d_\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]{2,}"
_UNSPACED: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]{2,}"
_GRAMS: Final = (2, 3, 4)
_LOOKED_AT: Final = 40
_SHARE: Final = 0.1
"""A term must be on this share of a group's products to stand for it."""

_IMPLIES: Final = 0.95
"""Share of one term's products from which another is taken as said with it."""

_BOUND, _OFTENER, _SEEN = 0.8, 0.4, 3
"""Two words of titles are one name (Mother Earth) when the rarer nearly always stands beside the other, the other
often beside the rarer, and both on three products at least."""


def label_clusters(catalogue: Catalogue, groups: IntArray, terms: int) -> pl.DataFrame:
    """Label groups by p log(p / q), p the share of a group's products that carry a term and q that of all products.

    It is each term's part in the divergence of the group from the whole (the idea of class-based TF-IDF, Grootendorst
    2022). A word that is everywhere has p = q and counts nothing, so no list of stop words is needed in any language.

    Args:
        catalogue: n products.
        groups: (n,) int64 group ids.
        terms: words in a label; more where two groups would be called the same.

    Returns:
        Frame (cluster_id, label, size, terms) by ascending id; terms is a JSON list, the most telling first.
    """
    ids, sizes = np.unique(groups, return_counts=True)
    carried = _carried(catalogue)
    ranked = _ranked(carried, groups)
    implied = _implied(carried, ranked)
    chosen = [_telling(ranked.get(int(group), []), implied) for group in ids]
    return pl.DataFrame(
        {
            "cluster_id": ids.astype(np.int64),
            "label": _labels(chosen, terms, ids),
            "size": sizes.astype(np.int64),
            "terms": [json.dumps(words, ensure_ascii=False) for words in chosen],
        },
        schema={"cluster_id": pl.Int64, "label": pl.String, "size": pl.Int64, "terms": pl.String},
    )


def _ranked(carried: pl.DataFrame, groups: IntArray) -> dict[int, list[str]]:
    """For each group its terms as most often written, the most telling first."""
    owner = pl.DataFrame({"row": np.arange(len(groups), dtype=np.int64), "group": groups})
    written = carried.group_by("term", "text").len().sort("term", "len", "text", descending=[False, True, False])
    written = written.group_by("term", maintain_order=True).first().select("term", "text")
    once = carried.select("row", "term").unique().join(owner, on="row")
    everywhere = once.group_by("term").len("all")
    sizes = owner.group_by("group").len("size")
    counts = once.group_by("group", "term").len("here").join(everywhere, on="term").join(sizes, on="group")
    share = pl.col("here") / pl.col("size")
    telling = (
        counts.filter((share >= _SHARE) & ((pl.col("here") > 1) | (pl.col("size") == 1)))
        .with_columns((share * (share * len(groups) / pl.col("all")).log()).round(9).alias("telling"))
        .filter(pl.col("telling") > 0)
        .join(written, on="term")
        .with_columns(pl.col("term").str.len_chars().alias("length"))  # of equals the longer: a piece is no word
        .sort("group", "telling", "length", "term", descending=[False, True, True, False])
        .group_by("group", maintain_order=True)
        .agg(pl.col("text").head(_LOOKED_AT))
    )
    return {int(group): list(texts) for group, texts in telling.iter_rows()}


def _implied(carried: pl.DataFrame, ranked: dict[int, list[str]]) -> set[tuple[str, str]]:
    """Pairs (a, b) of terms where nearly every product that carries a carries b: b adds nothing to a."""
    from scipy.sparse import csr_array

    terms = sorted({text.lower() for texts in ranked.values() for text in texts})
    if not terms:
        return set()
    column = pl.DataFrame({"term": terms, "column": np.arange(len(terms), dtype=np.int64)})
    cells = carried.select("row", "term").unique().join(column, on="term")
    shape = (int(cells["row"].max()) + 1, len(terms))  # type: ignore[arg-type]
    marks = csr_array((np.ones(cells.height, np.int64), (cells["row"].to_numpy(), cells["column"].to_numpy())), shape)
    both = (marks.T @ marks).tocoo()
    alone: IntArray = np.asarray(marks.sum(axis=0)).ravel()
    nearly = both.data >= _IMPLIES * alone[both.row]
    return {(terms[a], terms[b]) for a, b in zip(both.row[nearly], both.col[nearly], strict=True)}


def _carried(catalogue: Catalogue) -> pl.DataFrame:
    """Which product carries which term: row, term (folded), text (as written)."""
    table = catalogue.frame
    rows = pl.Series("row", np.arange(table.height, dtype=np.int64))
    parts = []
    if schema.TITLE in table.columns:
        title = table[schema.TITLE].cast(pl.String).fill_null("")
        words = _listed(rows, title.str.extract_all(_WORD))
        parts += [words, _names(words)]
        runs = _listed(rows, title.str.extract_all(_UNSPACED))
        parts += [_grams(runs, size) for size in _GRAMS] if runs.height else []
    for name in (schema.CATEGORY, schema.BRAND, *table.columns):
        own = name in (schema.CATEGORY, schema.BRAND) or name.startswith(schema.ATTRIBUTE_PREFIX)
        if own and name in table.columns and table.schema[name] == pl.String:
            parts.append(_listed(rows, table[name].str.split(" | ")))
    every = pl.concat(parts) if parts else _listed(rows[:0], pl.Series(dtype=pl.List(pl.String)))
    every = every.filter(pl.col("text").str.contains(r"\p{L}"))  # 2016 or 38 say nothing without their column
    return every.with_columns(pl.col("text").str.to_lowercase().alias("term"))


def _names(words: pl.DataFrame) -> pl.DataFrame:
    """Pairs of neighbouring words that stand together nearly always."""
    folded = words.with_columns(pl.col("text").str.to_lowercase().alias("first"))
    pairs = folded.with_columns(
        pl.col("first").shift(-1).over("row").alias("second"),
        pl.concat_str(pl.col("text"), pl.col("text").shift(-1).over("row"), separator=" ").alias("text"),
    ).drop_nulls("second")
    often = folded.group_by("first").agg(pl.col("row").n_unique().alias("count"))
    counts = (
        pairs.group_by("first", "second")
        .agg(pl.col("row").n_unique().alias("both"))
        .filter((pl.col("both") >= _SEEN) & (pl.col("first") != pl.col("second")))
        .join(often, on="first")
        .join(often.rename({"first": "second"}), on="second", suffix="_second")
    )
    rarer, oftener = pl.min_horizontal("count", "count_second"), pl.max_horizontal("count", "count_second")
    bound = counts.filter((pl.col("both") >= _BOUND * rarer) & (pl.col("both") >= _OFTENER * oftener))
    return pairs.join(bound.select("first", "second"), on=["first", "second"], how="semi").select("row", "text")


def _listed(rows: pl.Series, texts: pl.Series) -> pl.DataFrame:
    """One line for each text of each product."""
    lines = pl.DataFrame({"row": rows, "text": texts}).explode("text")
    return lines.with_columns(pl.col("text").str.strip_chars()).filter(pl.col("text").str.len_chars() > 1)


def _grams(runs: pl.DataFrame, size: int) -> pl.DataFrame:
    """Pieces of runs of a script without spaces, where a word has no marked end."""
    cut = [(row, text[at : at + size]) for row, text in runs.iter_rows() for at in range(len(text) - size + 1)]
    return pl.DataFrame(cut, schema=runs.schema, orient="row")


def _telling(texts: list[str], implied: set[tuple[str, str]]) -> list[str]:
    """The first terms that say something the ones before them do not."""
    chosen: list[str] = []
    said: set[str] = set()
    for found in texts:
        text = _whole(found, texts, implied)
        words = {_stem(word) for word in re.findall(r"\w+", text.lower())}
        piece = not text.isascii() and any(text in other or other in text for other in chosen)
        if piece or words <= said or any((other.lower(), text.lower()) in implied for other in chosen):
            continue
        chosen.append(text)
        said |= words
        if len(chosen) == KEPT:
            break
    return chosen


def _whole(text: str, texts: list[str], implied: set[tuple[str, str]]) -> str:
    """The name that a word is nearly always part of, or the word."""
    own = text.lower()
    for other in texts:
        if own in other.lower().split() and own != other.lower() and (own, other.lower()) in implied:
            return other
    return text


def _stem(word: str) -> str:
    """Singular of a regular English plural; other words as they are."""
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _labels(chosen: list[list[str]], terms: int, ids: IntArray) -> list[str]:
    """Terms joined; where two groups would be called the same, more of them, and at last the group's id."""
    lengths = [terms] * len(chosen)
    while True:
        out = [" · ".join(words[:length]) for words, length in zip(chosen, lengths, strict=True)]
        same = [at for at, label in enumerate(out) if out.count(label) > 1]
        longer = [at for at in same if lengths[at] < len(chosen[at])]
        if not longer:
            break
        for at in longer:
            lengths[at] += 1
    for at in same:
        out[at] = f"{out[at]} ({ids[at]})" if out[at] else f"group {ids[at]}"
    return [label or f"group {group}" for label, group in zip(out, ids, strict=True)]
