from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.data.tfidf import product_tfidf
from recsys.data.tokenize import tokenize
from tests.recommend.shops import catalogue


def test_equals_scikit_learns_tfidf_with_the_same_words():
    shop = catalogue(50)
    found = product_tfidf(shop).toarray()
    texts = [f"{title} {colour}" for title, colour in shop.frame.select("title", "attributes.colour").iter_rows()]
    vectorizer = TfidfVectorizer(analyzer=tokenize, sublinear_tf=True)
    expected = vectorizer.fit_transform(texts)
    np.testing.assert_allclose(found @ found.T, (expected @ expected.T).toarray(), atol=1e-5)


def test_a_product_without_text_has_no_words_and_rows_are_unit_length():
    shop = catalogue(4)
    columns = shop.frame.with_columns(
        pl.Series("title", [None, "a b a", None, "c"], dtype=pl.String),
        pl.lit(None, pl.String).alias("attributes.colour"),
        pl.Series("attributes.size", [1.0, 2.0, 3.0, 4.0]),
    )
    found = product_tfidf(dataclasses.replace(shop, frame=columns))
    assert np.diff(found.indptr).tolist() == [0, 2, 0, 1]
    np.testing.assert_allclose(np.asarray(found.multiply(found).sum(axis=1)).ravel(), [0, 1, 0, 1], atol=1e-6)
    assert found.dtype == np.float32
