from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.data import tfidf as words
from tests.recommend.shops import catalogue


def test_equals_scikit_learns_tfidf_with_the_same_words():
    shop = catalogue(50)
    found = words.product_tfidf(shop).toarray()
    texts = [f"{title} {colour}" for title, colour in shop.frame.select("title", "attributes.colour").iter_rows()]
    vectorizer = TfidfVectorizer(analyzer=words.split, sublinear_tf=True)
    expected = vectorizer.fit_transform(texts)
    np.testing.assert_allclose(found @ found.T, (expected @ expected.T).toarray(), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Red T-Shirt_XL 38", ["red", "t", "shirt", "xl", "38"]),
        ("红色连衣裙", ["红色", "色连", "连衣", "衣裙"]),
        ("Nike 鞋 run跑步鞋", ["nike", "鞋", "run", "跑步", "步鞋"]),
        ("ÉTÉ déjà", ["été", "déjà"]),
        ("", []),
    ],
)
def test_words_are_cut_in_any_script(text, pieces):
    assert words.split(text) == pieces


def test_a_product_without_text_has_no_words_and_rows_are_unit_length():
    shop = catalogue(4)
    columns = shop.frame.with_columns(
        pl.Series("title", [None, "a b a", None, "c"], dtype=pl.String),
        pl.lit(None, pl.String).alias("attributes.colour"),
        pl.Series("attributes.size", [1.0, 2.0, 3.0, 4.0]),
    )
    found = words.product_tfidf(dataclasses.replace(shop, frame=columns))
    assert np.diff(found.indptr).tolist() == [0, 2, 0, 1]
    np.testing.assert_allclose(np.asarray(found.multiply(found).sum(axis=1)).ravel(), [0, 1, 0, 1], atol=1e-6)
    assert found.dtype == np.float32
